//! What was measured, as tables.

use serde_json::{Value, json};

use crate::contender::{Contender, Who};
use crate::rows::{Aim, Row};
use crate::workload::Workload;

/// Contenders of the workloads that were run.
#[derive(Default)]
pub struct Results(Vec<(&'static str, Vec<Contender>)>);

impl Results {
    /// Adds a workload.
    pub fn add(&mut self, workload: &Workload, contenders: Vec<Contender>) {
        self.0.push((workload.name, contenders));
    }

    /// A contender that has run.
    pub fn find(&self, workload: &Workload, who: Who) -> Option<&Contender> {
        self.of(workload).find(|c| c.who == who)
    }

    /// The fastest of those that `wanted` holds for.
    pub fn fastest(&self, workload: &Workload, wanted: impl Fn(Who) -> bool) -> Option<&Contender> {
        let key = |c: &&Contender| c.seconds().unwrap_or(f64::INFINITY);
        self.of(workload).filter(|c| wanted(c.who)).min_by(|a, b| key(a).total_cmp(&key(b)))
    }

    fn of(&self, workload: &Workload) -> impl Iterator<Item = &Contender> {
        let all = self.0.iter().filter(|(name, _)| *name == workload.name).flat_map(|(_, all)| all);
        all.filter(|c| !c.runs.is_empty())
    }

    /// Why one of ours failed, if one did: the yardstick may, ours may not.
    pub fn failure(&self) -> Option<String> {
        let ours = self.0.iter().flat_map(|(_, all)| all).filter(|c| matches!(c.who, Who::Ours { .. }));
        ours.filter_map(|c| c.left_out.clone()).next()
    }

    /// Every run of everyone.
    pub fn json(&self) -> Value {
        let runs = |c: &Contender| -> Value {
            let run = c.runs.iter().map(|r| json!({"resident_peak_bytes": r.peak, "found": r.found}));
            json!({"name": c.name(), "left_out": c.left_out, "runs": run.collect::<Vec<_>>()})
        };
        let one = |(name, all): &(&str, Vec<Contender>)| (name.to_string(), all.iter().map(runs).collect::<Value>());
        Value::Object(self.0.iter().map(one).collect())
    }
}

/// Time and memory of everyone in a workload.
pub fn measured(workload: &Workload, contenders: &[Contender]) -> String {
    let mut text = format!("{}\n", workload.title);
    text += &format!("  {:24}{:>10}  {:>17}{:>12}\n", "", "s a step", "least to most", "resident");
    for contender in contenders {
        let runs = || contender.runs.iter().map(|run| run.seconds);
        let (least, most) = (runs().fold(f64::INFINITY, f64::min), runs().fold(0.0, f64::max));
        text += &match contender.seconds() {
            Some(seconds) => {
                let peak = contender.peak();
                let peak = peak.map_or("-".to_string(), gigabytes);
                let range = format!("{least:.3} to {most:.3}");
                format!("  {:24}{seconds:>10.3}  {range:>17}{peak:>12}", contender.name())
            }
            None => format!("  {:24}{:>10}", contender.name(), "-"),
        };
        if let Some(reason) = &contender.left_out {
            text += &format!("  {reason}");
        }
        text.push('\n');
    }
    text
}

/// What is aimed at beside what was measured.
pub fn compared(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.what.len()).max().unwrap_or(0);
    let mut text = format!("{:width$}  {:>16}  {:>10}\n", "", "aim", "measured");
    for row in rows {
        let aim = match row.aim {
            Aim::None => String::new(),
            Aim::Times(aim) => format!("at least {aim:.2} x"),
            Aim::AtLeast(aim) => format!("at least {}", percent(aim)),
            Aim::AtMost(aim) => format!("at most {}", percent(aim)),
            Aim::Within(aim) => format!("within {}", gigabytes(aim as usize)),
        };
        let (found, met) = match row.found {
            Some(found) => (row.aim.shown(found), row.aim.verdict(found)),
            None => ("-".to_string(), "not measured"),
        };
        text += &format!("{:width$}  {aim:>16}  {found:>10}  {met}\n", row.what);
    }
    text
}

impl Aim {
    /// Whether a measured value does.
    fn verdict(self, found: f64) -> &'static str {
        let met = match self {
            Aim::None => return "",
            Aim::Times(aim) | Aim::AtLeast(aim) => found >= aim,
            Aim::AtMost(aim) | Aim::Within(aim) => found <= aim,
        };
        if met { "reached" } else { "not reached" }
    }

    fn shown(self, found: f64) -> String {
        match self {
            Aim::Times(_) => format!("{found:.2} x"),
            Aim::None | Aim::AtLeast(_) | Aim::AtMost(_) => percent(found),
            Aim::Within(_) => gigabytes(found as usize),
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn gigabytes(bytes: usize) -> String {
    format!("{:.2} GB", bytes as f64 / 1e9)
}

/// The middle value, or the mean of the middle two; `None` of nothing.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_counts() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median([].into_iter()), None);
    }

    #[test]
    fn a_row_says_whether_its_aim_is_reached() {
        let row = |what, aim, found| Row { what, aim, found };
        let text = compared(&[
            row("as fast", Aim::Times(1.6), Some(1.55)),
            row("memory", Aim::AtMost(0.4), Some(0.25)),
            row("fits", Aim::Within(12e9), None),
        ]);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(lines[0], "as fast   at least 1.60 x      1.55 x  not reached");
        assert_eq!(lines[1], "memory     at most 40.0 %      25.0 %  reached");
        assert_eq!(lines[2], "fits      within 12.00 GB           -  not measured");
    }
}
