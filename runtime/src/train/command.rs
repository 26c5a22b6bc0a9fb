//! `vjepa-run train`: from settings to a run directory with checkpoints.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use vjepac::ir::graph::{Slot, SlotId, SlotKind};
use vjepac::program::{Program, RunSettings};

use super::directory::RunDirectory;
use super::run_loop::{self, Plan};
use super::source::{self, Wanted};
use crate::checkpoint::{self, load_weights};
use crate::device::{self, Session};
use crate::error::{Error, Result};
use crate::masks::MaskSampler;
use crate::report::metrics::MetricsLog;
use crate::report::progress::{Progress, table};
use crate::report::trace::TraceFile;
use crate::settings;

/// What a run left behind.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Steps done.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Stopped by a signal before its last step.
    pub stopped: bool,
    /// The newest checkpoint.
    pub checkpoint: PathBuf,
    /// Where everything else lies.
    pub directory: RunDirectory,
}

/// Trains. `bytes` is the program as stored.
pub fn train(program: Arc<Program>, bytes: &[u8], settings: &settings::Train, stop: &AtomicBool) -> Result<Summary> {
    let run = program.run.clone().ok_or_else(|| Error::failed("the program has no `train` section"))?;
    let steps = run.steps as u64;
    let last = settings.steps.unwrap_or(steps);
    if last > steps {
        return Err(Error::usage(format!(
            "--steps {last}: the program is made for {steps} steps; compile it with `--set train.steps={last}`"
        )));
    }
    let directory = RunDirectory { root: settings.out.clone() };
    directory.inspect(bytes)?;
    let newest = checkpoint::newest(&directory.checkpoints())?;
    let (mut seed, mut first_step) = (settings.seed.unwrap_or(run.seed), 1);
    if let Some(place) = &newest {
        let state = checkpoint::read_state(place)?;
        if settings.seed.is_some_and(|s| s != state.seed) {
            let (root, held) = (directory.root.display(), state.seed);
            return Err(Error::failed(format!(
                "`{root}` holds a run with seed {held}, not {seed}; leave out `--seed`"
            )));
        }
        (seed, first_step) = (state.seed, state.step + 1);
    }
    let wanted = Wanted { settings, seed, first_step, record: directory.substitutions() };
    let mut clips = source::open(&program, &wanted)?;
    let mut session = Session::new(program.clone(), device::machine(program.clone(), settings.on.how())?);
    session.set_micro_batch(settings.micro_batch);
    let memory = session.prepare(&MaskSampler::draw(&program, seed, first_step, 0, run.batch)?)?;
    let done = match &newest {
        Some(place) => {
            if !settings.weights.is_empty() {
                let root = directory.root.display();
                return Err(Error::failed(format!(
                    "`{root}` already holds a checkpoint, which `--weights` would replace; leave it out, or give another `--out`"
                )));
            }
            checkpoint::load(place, &mut session)?.step
        }
        None => {
            start(&mut session, settings, seed)?;
            0
        }
    };
    directory.create(bytes, &program.resolved)?;
    let trace = settings.trace.as_deref().map(|path| TraceFile::create(path, session.machine())).transpose()?;

    let mut metrics = MetricsLog::open(&directory.metrics(), done)?;
    let mut progress = Progress::start(Some(&directory.log()), done, last)?;
    let mut rows = rows(&program, &run, settings, seed, done, last);
    if let Some(bytes) = memory {
        let limit = settings.on.memory.map_or(String::new(), |limit| format!(" of {}", mebibytes(limit)));
        rows.push(("memory", format!("{}{limit}, decoded frames apart", mebibytes(bytes))));
    }
    progress.say(&table(&rows));
    let plan = Plan {
        seed,
        batch: run.batch,
        done,
        last,
        save_every: settings.save_every.unwrap_or((run.steps as u64 / 10).clamp(1, 1000)),
        metrics_every: settings.metrics_every,
        keep: settings.keep,
        checkpoints: directory.checkpoints(),
    };
    let ended = run_loop::train(&mut session, clips.as_mut(), &mut metrics, &mut progress, &plan, trace, stop);
    progress.finish();
    let ended = ended.inspect_err(|error| progress.note(&error.to_string()))?;
    let checkpoint =
        ended.checkpoint.or(newest).ok_or_else(|| Error::failed("compiler bug: a run without a checkpoint"))?;
    let stopped = ended.stopped;
    Ok(Summary { step: ended.step, steps, stopped, checkpoint, directory })
}

/// Initial weights, those of other files, and moving averages of both.
fn start(session: &mut Session, settings: &settings::Train, seed: u64) -> Result<()> {
    session.init(seed)?;
    let mut given: Vec<SlotId> = Vec::new();
    for from in &settings.weights {
        given.extend(load_weights(session, from)?);
    }
    session.copy_averages(&given);
    let missing = |(id, slot): (SlotId, &Slot)| {
        let missing = matches!(slot.kind, SlotKind::Frozen) && !given.contains(&id);
        missing.then(|| slot.key.clone())
    };
    match session.slots().find_map(missing) {
        Some(key) => {
            let field = key.split('.').next().unwrap_or(&key);
            Err(Error::failed(format!("`{key}` is frozen and was not given; add `--weights {field}=FILE`")))
        }
        None => Ok(()),
    }
}

fn mebibytes(bytes: usize) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The settings of a run, for people.
fn rows(
    program: &Program,
    run: &RunSettings,
    settings: &settings::Train,
    seed: u64,
    done: u64,
    last: u64,
) -> Vec<(&'static str, String)> {
    let trained: usize = program
        .tables
        .slots
        .iter()
        .filter(|slot| matches!(slot.kind, SlotKind::Trained { .. }))
        .map(|slot| slot.shape.iter().product::<usize>())
        .sum();
    let steps = match done {
        0 => format!("{last} of {}", run.steps),
        _ => format!("{} to {last} of {}", done + 1, run.steps),
    };
    vec![
        ("model", program.name.clone()),
        ("trained weights", trained.to_string()),
        ("data", settings.data.join(", ")),
        ("steps", steps),
        ("batch", format!("{} clips, masks cut in groups of {}", run.batch, run.group.max(1))),
        ("precision", run.precision.clone()),
        ("seed", seed.to_string()),
        ("threads", format!("{}, and {} that decode", settings.on.threads(), settings.workers)),
        ("run", settings.out.display().to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::device::fake;
    use crate::settings::{Cli, Command};

    #[test]
    fn frozen_weights_must_be_given() {
        let mut program = fake::program(2, 4);
        program.tables.slots[1].kind = SlotKind::Frozen;
        let mut session = fake::session(program);
        let line = ["vjepa-run", "train", "a.vjc", "--out", "run"];
        let Command::Train(settings) = Cli::parse_from(line).command else { panic!("{line:?}") };
        let error = start(&mut session, &settings, 0).unwrap_err().to_string();
        assert_eq!(error, "`encoder.pos` is frozen and was not given; add `--weights encoder=FILE`");
    }
}
