//! Progress for people: on a terminal a bar, elsewhere a line now and then; messages also go to `log.txt`.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::device::StepReport;
use crate::error::{Error, Result};

/// Seconds between lines where there is no terminal; chosen by feel.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// How fast the shown clips a second follow the measured ones; chosen by feel.
const SMOOTHING: f64 = 0.1;

/// Tells how a run goes.
pub struct Progress {
    bar: Option<ProgressBar>,
    log: Option<File>,
    start: Instant,
    told: Option<Instant>,
    rate: Option<f64>,
    last: u64,
}

impl Progress {
    /// From `done` steps to `last`, with messages appended to `log`.
    pub fn start(log: Option<&Path>, done: u64, last: u64) -> Result<Progress> {
        let open = |path: &Path| {
            OpenOptions::new().create(true).append(true).open(path).map_err(|e| Error::io("write", path, e))
        };
        let log = log.map(open).transpose()?;
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(last), ProgressDrawTarget::stderr());
            let style =
                ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}").expect("compiler bug: bar template");
            bar.set_style(style);
            bar.set_position(done);
            bar
        });
        Ok(Progress { bar, log, start: Instant::now(), told: None, rate: None, last })
    }

    /// A message.
    pub fn say(&mut self, message: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{message}")),
            None => eprintln!("{message}"),
        }
        self.note(message);
    }

    /// A message for the log alone.
    pub fn note(&mut self, message: &str) {
        let seconds = self.start.elapsed().as_secs_f64();
        if let Some(log) = &mut self.log {
            // A full disk must not end a run for want of a log line; the metrics and checkpoints do tell.
            let _ = writeln!(log, "[{seconds:9.1}s] {message}");
        }
    }

    /// A step is done.
    pub fn step(&mut self, step: u64, report: &StepReport, clips_a_second: f64, clips: usize) {
        let rate = self.rate.map_or(clips_a_second, |r| r + SMOOTHING * (clips_a_second - r));
        self.rate = Some(rate);
        let left = (self.last - step) as f64 * clips as f64 / rate;
        let line = describe(report, rate, left);
        if let Some(bar) = &self.bar {
            bar.set_position(step);
            bar.set_message(line);
            return;
        }
        let due = self.told.is_none_or(|told| told.elapsed() >= LINE_EVERY) || step == self.last;
        if due {
            self.told = Some(Instant::now());
            eprintln!("step {step}/{}  {line}", self.last);
        }
    }

    /// Takes the bar away.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish();
        }
    }
}

/// Loss, rates, time left.
fn describe(report: &StepReport, clips_a_second: f64, seconds_left: f64) -> String {
    let lr = report.lr.map_or(String::new(), |lr| format!("  rate {lr:.2e}"));
    let norms: Vec<String> = report.grad_norm.iter().map(|(_, n)| format!("{n:.2e}")).collect();
    let norms = if norms.is_empty() { String::new() } else { format!("  gradient {}", norms.join(" ")) };
    let (loss, left) = (report.loss, duration(seconds_left));
    format!("loss {loss:.4}{lr}{norms}  {clips_a_second:.1} clips/s  {left} left")
}

/// Seconds as people say them.
fn duration(seconds: f64) -> String {
    let s = if seconds.is_finite() { seconds.round() as u64 } else { 0 };
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        _ => format!("{}h{:02}m", s / 3600, s / 60 % 60),
    }
}

/// A two-column table, one row a line.
pub fn table(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("  {name:width$}  {value}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_tables_read_well() {
        assert_eq!([5.4, 61.0, 3720.0].map(duration), ["5s", "1m01s", "1h02m"]);
        assert_eq!(table(&[("seed", "1".into()), ("precision", "f32".into())]), "  seed       1\n  precision  f32");
    }
}
