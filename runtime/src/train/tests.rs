//! The loop on a machine that plays a tiny program.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::run_loop::{ClipSource, Ended, Plan, train};
use crate::checkpoint;
use crate::device::fake;
use crate::error::Result;
use crate::report::metrics::MetricsLog;
use crate::report::progress::Progress;

/// Labels that depend on step and clip alone; no number at step `broken`.
struct Labels {
    batch: usize,
    broken: u64,
    stop_at: Option<(u64, &'static AtomicBool)>,
}

impl ClipSource for Labels {
    fn fetch(&mut self, step: u64) -> Result<Vec<Vec<f32>>> {
        if let Some((at, stop)) = self.stop_at
            && at == step
        {
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        if step == self.broken {
            return Ok(vec![vec![f32::NAN; self.batch]]);
        }
        Ok(vec![(0..self.batch as u64).map(|clip| ((step * 7 + clip * 3) % 10) as f32).collect()])
    }

    fn notes(&mut self) -> Vec<String> {
        vec![]
    }
}

const BATCH: usize = 3;

fn run(root: &Path, last: u64, clips: &mut Labels, stop: &AtomicBool) -> Result<Ended> {
    let checkpoints = root.join("checkpoints");
    fs::create_dir_all(&checkpoints).unwrap();
    let mut session = fake::session(fake::program(BATCH, 40));
    let done = match checkpoint::newest(&checkpoints)? {
        Some(place) => checkpoint::load(&place, &mut session)?.step,
        None => 0,
    };
    let plan = Plan { seed: 5, batch: BATCH, done, last, save_every: 15, metrics_every: 100, keep: 3, checkpoints };
    let mut metrics = MetricsLog::open(&root.join("metrics.jsonl"), done)?;
    let mut progress = Progress::start(None, done, last)?;
    train(&mut session, clips, &mut metrics, &mut progress, &plan, None, stop)
}

fn labels() -> Labels {
    Labels { batch: BATCH, broken: 0, stop_at: None }
}

/// Losses without the times of a step, and the bytes of the last checkpoint.
fn result(root: &Path, step: u64) -> (Vec<String>, Vec<Vec<u8>>) {
    let text = fs::read_to_string(root.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|l| l.split("\"clips_a_second\"").next().unwrap().to_string()).collect();
    let place = checkpoint::format::directory(&root.join("checkpoints"), step);
    let files = ["model.safetensors", "optimizer.safetensors", "state.json"];
    (lines, files.map(|f| fs::read(place.join(f)).unwrap()).to_vec())
}

static NEVER: AtomicBool = AtomicBool::new(false);

#[test]
fn twenty_and_twenty_steps_are_forty() {
    let (whole, halves) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run(whole.path(), 40, &mut labels(), &NEVER).unwrap();
    run(halves.path(), 20, &mut labels(), &NEVER).unwrap();
    let ended = run(halves.path(), 40, &mut labels(), &NEVER).unwrap();
    assert_eq!((ended.step, ended.stopped), (40, false));
    let (a, b) = (result(whole.path(), 40), result(halves.path(), 40));
    assert_eq!(a.0.len(), 40);
    assert_eq!(a, b);
}

#[test]
fn a_loss_that_is_no_number_stops_before_saving() {
    let dir = tempfile::tempdir().unwrap();
    let error = run(dir.path(), 40, &mut Labels { broken: 20, ..labels() }, &NEVER).unwrap_err();
    assert!(error.to_string().starts_with("the loss of step 20 is NaN"), "{error}");
    let newest = checkpoint::newest(&dir.path().join("checkpoints")).unwrap().unwrap();
    assert!(newest.ends_with("00000015"));
    // What follows is the run that would have been.
    run(dir.path(), 40, &mut labels(), &NEVER).unwrap();
    let whole = tempfile::tempdir().unwrap();
    run(whole.path(), 40, &mut labels(), &NEVER).unwrap();
    assert_eq!(result(dir.path(), 40), result(whole.path(), 40));
}

#[test]
fn a_signal_lets_the_step_finish_and_saves_it() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let dir = tempfile::tempdir().unwrap();
    let ended = run(dir.path(), 40, &mut Labels { stop_at: Some((7, &STOP)), ..labels() }, &STOP).unwrap();
    assert_eq!((ended.step, ended.stopped), (7, true));
    assert!(ended.checkpoint.unwrap().ends_with("00000007"));
}
