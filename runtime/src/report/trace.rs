//! A step as a Chrome trace: a JSON array of complete events, one a run of an op, times in microseconds.
//!
//! `chrome://tracing` and <https://ui.perfetto.dev> show such files. The name of an event is the op, its category the
//! entry, and its arguments tell the instance it came from and the types of what it read and wrote, with the extents of
//! that step. The file is there whole or not at all.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use vjepac::lower::{Event, Machine};

use crate::error::{Error, Result};

/// A trace that is going to be written. Without [`TraceFile::write`] nothing is left of it.
#[derive(Debug)]
pub struct TraceFile {
    path: PathBuf,
    partial: PathBuf,
    file: Option<File>,
}

impl TraceFile {
    /// Makes sure, before anything runs, that the machine can tell a trace and that it can be written.
    pub fn create(path: &Path, machine: &mut dyn Machine) -> Result<TraceFile> {
        machine.record()?;
        machine.recorded(); // nothing yet
        let Some(name) = path.file_name().filter(|_| !path.is_dir()) else {
            return Err(Error::failed(format!(
                "`{}` is no file to write a trace to; give a name such as trace.json",
                path.display()
            )));
        };
        let mut partial = name.to_os_string();
        partial.push(format!(".{}.partial", std::process::id()));
        let partial = path.with_file_name(partial);
        let file = File::create(&partial).map_err(|e| Error::io("write", path, e))?;
        Ok(TraceFile { path: path.to_path_buf(), partial, file: Some(file) })
    }

    /// Writes the events of a step and gives the file its name.
    pub fn write(mut self, events: &[Event]) -> Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let write = || -> std::io::Result<()> {
            let mut out = BufWriter::new(file);
            serde_json::to_writer(&mut out, &lines(events).collect::<Vec<_>>())?;
            out.write_all(b"\n")?;
            out.into_inner()?.sync_all()?;
            fs::rename(&self.partial, &self.path)
        };
        write().map_err(|e| Error::io("write", &self.path, e))
    }
}

impl Drop for TraceFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.partial); // gone already if the trace was written
    }
}

/// A complete event of the format.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    cat: &'a str,
    ph: &'a str,
    ts: f64,
    dur: f64,
    pid: u32,
    tid: u32,
    args: Arguments<'a>,
}

#[derive(Serialize)]
struct Arguments<'a> {
    place: &'a str,
    inputs: &'a [String],
    outputs: &'a [String],
}

/// Ops run one after another, each on all threads, so there is one row; time starts with the first.
fn lines(events: &[Event]) -> impl Iterator<Item = Line<'_>> {
    events.iter().map(|event| Line {
        name: event.op,
        cat: event.entry.name(),
        ph: "X",
        ts: micros(event.start.saturating_duration_since(events[0].start).as_secs_f64()),
        dur: micros(event.seconds),
        pid: 1,
        tid: 1,
        args: Arguments { place: &event.place, inputs: &event.inputs, outputs: &event.outputs },
    })
}

/// Microseconds, to the nanosecond.
fn micros(seconds: f64) -> f64 {
    (seconds * 1e9).round() / 1e3
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::{Value, json};
    use vjepac::program::Entry;

    use super::*;
    use crate::device::fake;

    fn create(path: &Path) -> Result<TraceFile> {
        TraceFile::create(path, fake::session(fake::program(2, 4)).machine())
    }

    fn event(op: &'static str, start: Instant, seconds: f64) -> Event {
        let (inputs, outputs) = (vec!["f32 [8, 4]".to_string()], vec!["f32 [8, 2]".to_string()]);
        Event { entry: Entry::Grads, op, place: "encoder.blocks.3.attn".into(), inputs, outputs, start, seconds }
    }

    #[test]
    fn events_are_complete_events_in_microseconds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.json");
        let start = Instant::now();
        let events = [event("linear", start, 0.0015), event("gelu", start + Duration::from_micros(1600), 0.000_25)];
        create(&path).unwrap().write(&events).unwrap();
        let read: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let args = json!({"place": "encoder.blocks.3.attn", "inputs": ["f32 [8, 4]"], "outputs": ["f32 [8, 2]"]});
        let line = |name: &str, ts: f64, dur: f64| json!({"name": name, "cat": "grads", "ph": "X", "ts": ts, "dur": dur, "pid": 1, "tid": 1, "args": args});
        assert_eq!(read, json!([line("linear", 0.0, 1500.0), line("gelu", 1600.0, 250.0)]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something was left beside the trace");
    }

    #[test]
    fn what_cannot_be_written_is_told_at_once_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let error = |path: &Path| create(path).unwrap_err().to_string();
        let missing = error(&dir.path().join("nowhere/trace.json"));
        assert!(missing.starts_with("cannot write") && missing.contains("nowhere/trace.json"), "{missing}");
        assert!(error(dir.path()).contains("is no file to write a trace to"));
        drop(create(&dir.path().join("trace.json")).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
