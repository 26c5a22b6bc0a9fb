//! `metrics.jsonl`: one JSON object a step.
//!
//! A line is written whole and the file is synced when a checkpoint is made; continuing a run drops the lines after its
//! checkpoint, so that the file reads as if the run had never stopped.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use crate::device::StepReport;
use crate::error::{Error, Result};

/// A line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line<'a> {
    /// Step, from 1.
    pub step: u64,
    /// Mean loss over the batch.
    pub loss: f64,
    /// Learning rate.
    pub lr: Option<f64>,
    /// Weight decay.
    pub weight_decay: Option<f64>,
    /// Momentum: a number if there is one moving average, else by field.
    #[serde(serialize_with = "one_or_map")]
    pub ema: &'a [(String, f64)],
    /// Norm of the gradient before clipping, by network.
    #[serde(serialize_with = "map")]
    pub grad_norm: &'a [(String, f64)],
    /// Share of tokens in the context, by mask.
    pub context_share: &'a [f64],
    /// Share of tokens in the targets, by mask.
    pub target_share: &'a [f64],
    /// Clips a second.
    pub clips_a_second: f64,
    /// Seconds that the step waited for its clips.
    pub data_wait_seconds: f64,
    /// The model's metrics, at the steps where they are evaluated.
    #[serde(serialize_with = "map", skip_serializing_if = "<[_]>::is_empty")]
    pub metrics: &'a [(String, f64)],
}

impl<'a> Line<'a> {
    /// The line of a step.
    pub fn new(step: u64, report: &'a StepReport, clips_a_second: f64, data_wait_seconds: f64) -> Line<'a> {
        Line {
            step,
            loss: report.loss,
            lr: report.lr,
            weight_decay: report.weight_decay,
            ema: &report.ema,
            grad_norm: &report.grad_norm,
            context_share: &report.shares.context,
            target_share: &report.shares.target,
            clips_a_second,
            data_wait_seconds,
            metrics: &report.metrics,
        }
    }
}

/// Pairs as an object, in their order.
pub fn map<S: Serializer>(pairs: &[(String, f64)], to: S) -> std::result::Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(Some(pairs.len()))?;
    for (name, value) in pairs {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

/// Nothing, one number, or several by name.
pub fn one_or_map<S: Serializer>(pairs: &[(String, f64)], to: S) -> std::result::Result<S::Ok, S::Error> {
    match pairs {
        [] => to.serialize_none(),
        [(_, value)] => to.serialize_f64(*value),
        several => map(several, to),
    }
}

/// The file being written.
#[derive(Debug)]
pub struct MetricsLog {
    file: File,
    path: PathBuf,
}

impl MetricsLog {
    /// Opens the file for a run that has done `step` steps: later lines are dropped.
    pub fn open(path: &Path, step: u64) -> Result<MetricsLog> {
        truncate(path, step)?;
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(|e| Error::io("write", path, e))?;
        Ok(MetricsLog { file, path: path.to_path_buf() })
    }

    /// Appends a line.
    pub fn write(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_vec(line).expect("compiler bug: a step that is no JSON");
        text.push(b'\n');
        self.file.write_all(&text).map_err(|e| Error::io("write", &self.path, e))
    }

    /// Makes all lines durable.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|e| Error::io("sync", &self.path, e))
    }
}

#[derive(Deserialize)]
struct StepOnly {
    step: u64,
}

/// Keeps the whole lines of steps up to `step`.
fn truncate(path: &Path, step: u64) -> Result<()> {
    let Ok(file) = File::open(path) else { return Ok(()) };
    let (mut reader, mut line, mut kept) = (BufReader::new(file), Vec::new(), 0);
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(|e| Error::io("read", path, e))?;
        let whole = line.last() == Some(&b'\n');
        match serde_json::from_slice::<StepOnly>(&line) {
            Ok(found) if whole && found.step <= step => kept += read as u64,
            Ok(_) | Err(_) => break,
        }
    }
    let size = fs::metadata(path).map_err(|e| Error::io("read", path, e))?.len();
    if size == kept {
        return Ok(());
    }
    let cut = OpenOptions::new().write(true).open(path).and_then(|f| f.set_len(kept).and_then(|()| f.sync_all()));
    cut.map_err(|e| Error::io("shorten", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> StepReport {
        StepReport {
            loss: 0.5,
            lr: Some(0.1),
            ema: vec![("target_encoder".into(), 0.998)],
            grad_norm: vec![("predictor".into(), 2.0), ("encoder".into(), 1.0)],
            ..StepReport::default()
        }
    }

    #[test]
    fn a_line_has_the_fields_in_order() {
        let report = report();
        let line = serde_json::to_string(&Line::new(3, &report, 8.0, 0.25)).unwrap();
        assert_eq!(
            line,
            "{\"step\":3,\"loss\":0.5,\"lr\":0.1,\"weight_decay\":null,\"ema\":0.998,\
             \"grad_norm\":{\"predictor\":2.0,\"encoder\":1.0},\"context_share\":[],\"target_share\":[],\
             \"clips_a_second\":8.0,\"data_wait_seconds\":0.25}"
        );
    }

    #[test]
    fn continuing_drops_what_came_after_the_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let report = report();
        let mut log = MetricsLog::open(&path, 0).unwrap();
        for step in 1..=5 {
            log.write(&Line::new(step, &report, 1.0, 0.0)).unwrap();
        }
        log.file.write_all(b"{\"step\":6,\"lo").unwrap();
        drop(log);
        let steps = || {
            let text = fs::read_to_string(&path).unwrap();
            text.lines().map(|l| serde_json::from_str::<StepOnly>(l).unwrap().step).collect::<Vec<_>>()
        };
        MetricsLog::open(&path, 5).unwrap();
        assert_eq!(steps(), [1, 2, 3, 4, 5], "the torn line goes");
        MetricsLog::open(&path, 3).unwrap().write(&Line::new(4, &report, 1.0, 0.0)).unwrap();
        assert_eq!(steps(), [1, 2, 3, 4]);
        MetricsLog::open(&path, 0).unwrap();
        assert_eq!(steps(), [0; 0]);
    }
}
