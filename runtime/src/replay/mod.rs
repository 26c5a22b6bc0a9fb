//! Replaying recorded steps: does this program compute what was recorded elsewhere, and where not?
//!
//! A recording is a directory: `golden.json` (losses, schedules, norms), `weights.0.safetensors` (where it starts) and
//! `step.N.safetensors` (clip and masks of each step, and for some what came of them). Every difference is reported;
//! those beyond their bound fail. Bounds are those of the program's precision.

mod bounds;
mod compare;
mod recording;
mod report;
mod taps;

use std::path::PathBuf;
use std::sync::Arc;

use vjepac::ir::graph::SlotKind;
use vjepac::lower::Backend;
use vjepac::program::Program;

use crate::checkpoint;
use crate::device::{self, How, Session, StepData};
use crate::error::{Error, Result};
use crate::train::schedule;

pub use bounds::{Bound, Bounds};
pub use compare::{Difference, Kind};
pub use recording::{Recording, Step, StepTensors, read_step};
pub use report::{Replay, StepResult};

/// What to replay.
#[derive(Clone, Debug)]
pub struct Request {
    /// The recording.
    pub golden: PathBuf,
    /// How the program is run.
    pub how: How,
    /// How many steps; without it all, and on `reference` those that have activations.
    pub steps: Option<usize>,
}

/// Replays a recording; `tell` hears of every step.
pub fn replay(program: Arc<Program>, request: &Request, mut tell: impl FnMut(&StepResult)) -> Result<Replay> {
    let bounds = Bounds::of(&program)?;
    let recording = recording::open(&request.golden)?;
    let mut session = Session::new(program.clone(), device::machine(program, request.how)?);
    session.init(0)?;
    checkpoint::load_model(&mut session, &request.golden.join("weights.0.safetensors"))?;
    let mut replay = Replay { ok: true, bounds, steps: Vec::new() };
    for expected in recording.steps.iter().take(request.steps.unwrap_or(usize::MAX)) {
        let path = request.golden.join(format!("step.{}.safetensors", expected.step));
        let tensors = read_step(&path, session.program())?;
        let has_activations = tensors.others.iter().any(|t| compare::kind(&t.key).is_some());
        if request.how.backend == Backend::Reference && request.steps.is_none() && !has_activations {
            break;
        }
        let step = one(&mut session, request, bounds, expected, &tensors, has_activations)?;
        tell(&step);
        replay.ok &= step.ok();
        replay.steps.push(step);
    }
    if replay.steps.is_empty() {
        return Err(Error::failed(format!("`{}` holds no step to replay", request.golden.display())));
    }
    Ok(replay)
}

/// Runs one step and compares all that was recorded of it.
fn one(
    session: &mut Session,
    request: &Request,
    bounds: &'static Bounds,
    expected: &Step,
    tensors: &StepTensors,
    has_activations: bool,
) -> Result<StepResult> {
    let program = session.program().clone();
    let data = StepData { inputs: &tensors.inputs, segments: &tensors.segments, step: expected.step };
    let gradients = session.gradients(data)?;
    let slots: Vec<_> = session.slots().map(|(id, slot)| (id, slot.clone())).collect();
    let raw: Vec<(String, usize, Vec<f32>)> = slots
        .iter()
        .filter_map(|(id, slot)| match &slot.kind {
            SlotKind::Gradient { of } => match program.tables.slots[of.0 as usize].kind {
                SlotKind::Trained { network, .. } => Some((slot.key.clone(), network, session.slot(*id).to_vec())),
                _ => None,
            },
            _ => None,
        })
        .collect();
    let grad_norm = session.update(data)?;
    let scalars = schedule::scalars(&program, expected.step, 1.0)?;

    let mut found = taps::differences(&program, &tensors.segments, &gradients.outputs, &tensors.others)?;
    let clipped = raw.into_iter().map(|(key, network, mut g)| {
        let norm = grad_norm.iter().find(|(n, _)| *n == program.tables.networks[network]).map_or(0.0, |(_, n)| *n);
        if let Some(clip) = schedule::named(&program, &scalars, "clip_grad") {
            let factor = (clip / (norm + 1e-6)).min(1.0) as f32;
            g.iter_mut().for_each(|v| *v *= factor);
        }
        (key, g)
    });
    found.extend(compare::gradients(clipped.collect(), &tensors.others));
    let weights = request.golden.join(format!("weights.{}.safetensors", expected.step));
    if weights.exists() {
        let kept =
            |slot: &vjepac::ir::graph::Slot| checkpoint::format::file_of(&slot.kind) == Some(checkpoint::format::MODEL);
        let ours = slots.iter().filter(|(_, slot)| kept(slot));
        let ours = ours.map(|(id, slot)| (slot.key.clone(), session.slot(*id).to_vec())).collect();
        found.extend(compare::weights(ours, &checkpoint::read_tensors(&weights)?));
    }
    Ok(StepResult {
        step: expected.step,
        loss: gradients.loss,
        expected_loss: expected.loss,
        bounds,
        loss_bound: if has_activations { bounds.loss } else { bounds.late_loss },
        lr: schedule::named(&program, &scalars, "lr"),
        expected_lr: expected.lr,
        weight_decay: schedule::named(&program, &scalars, "weight_decay"),
        expected_weight_decay: expected.weight_decay,
        ema: schedule::momenta(&program, &scalars).first().map(|(_, m)| *m),
        expected_ema: expected.ema,
        grad_norm,
        expected_grad_norm: expected.grad_norm.clone(),
        tensors: found,
    })
}
