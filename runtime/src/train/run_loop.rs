//! The training loop, to be read aloud: fetch, mask, step, guard, log, maybe save.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::guard;
use crate::checkpoint::{self, State, format};
use crate::device::{Session, StepData};
use crate::error::Result;
use crate::masks::MaskSampler;
use crate::report::metrics::{Line, MetricsLog};
use crate::report::progress::Progress;
use crate::report::trace::TraceFile;

/// Where clips come from.
pub trait ClipSource {
    /// The clips of a step (from 1), one vector an input of the program. Steps are asked for in order.
    fn fetch(&mut self, step: u64) -> Result<Vec<Vec<f32>>>;
    /// What there is to tell since the last call, such as files that could not be read.
    fn notes(&mut self) -> Vec<String>;
}

/// When to stop, save and measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Seed of the run.
    pub seed: u64,
    /// Clips of a step.
    pub batch: usize,
    /// Steps done so far.
    pub done: u64,
    /// The last step.
    pub last: u64,
    /// Steps between checkpoints.
    pub save_every: u64,
    /// Steps between evaluations of the metrics.
    pub metrics_every: u64,
    /// Number of checkpoints kept.
    pub keep: usize,
    /// Directory of checkpoints.
    pub checkpoints: PathBuf,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Steps done.
    pub step: u64,
    /// The checkpoint of the last step.
    pub checkpoint: Option<PathBuf>,
    /// Stopped by a signal.
    pub stopped: bool,
}

/// Trains from `plan.done` to `plan.last`. `trace` takes the second of these steps, or the only one. `stop` is set from
/// outside: the step is finished and saved.
pub fn train(
    session: &mut Session,
    clips: &mut dyn ClipSource,
    metrics: &mut MetricsLog,
    progress: &mut Progress,
    plan: &Plan,
    mut trace: Option<TraceFile>,
    stop: &AtomicBool,
) -> Result<Ended> {
    let program = session.program().clone();
    let mut ended = Ended { step: plan.done, checkpoint: None, stopped: false };
    for step in plan.done + 1..=plan.last {
        let start = Instant::now();
        let inputs = clips.fetch(step)?;
        let waited = start.elapsed().as_secs_f64();
        clips.notes().iter().for_each(|note| progress.say(note));

        let segments = MaskSampler::draw(&program, plan.seed, step, 0, plan.batch)?;
        let data = StepData { inputs: &inputs, segments: &segments, step };
        let traced = trace.take_if(|_| step == (plan.done + 2).min(plan.last));
        if traced.is_some() {
            session.machine().record()?;
        }
        let report = session.step(data, due(step, plan.metrics_every))?;
        if let Some(file) = traced {
            file.write(&session.machine().recorded())?;
        }
        guard::check(&report, step)?;

        let clips_a_second = plan.batch as f64 / start.elapsed().as_secs_f64();
        metrics.write(&Line::new(step, &report, clips_a_second, waited))?;
        progress.step(step, &report, clips_a_second, plan.batch);

        ended = Ended { step, checkpoint: None, stopped: stop.load(Ordering::Relaxed) && step < plan.last };
        if due(step, plan.save_every) || step == plan.last || ended.stopped {
            metrics.sync()?;
            let state = State { version: format::VERSION, step, seed: plan.seed, batch: plan.batch };
            let place = checkpoint::save(&plan.checkpoints, session, &state, plan.keep)?;
            progress.note(&format!("step {step}: saved {}", place.display()));
            ended.checkpoint = Some(place);
        }
        if ended.stopped {
            break;
        }
    }
    Ok(ended)
}

fn due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}
