//! The pipeline, one line a stage; the only file that orders stages.

use crate::build::{self, Built};
use crate::diag::{Diagnostic, Severity};
use crate::elaborate::{self, Override};
use crate::ir::graph::{Graph, Slot, SlotId, SlotKind, Tables, Type, Value};
use crate::ir::op::{DType, Op};
use crate::model::{Model, Optimizer};
use crate::program::{MaskOutputs, Program, RunSettings};
use crate::source::{FileId, Loader, Sources};
use crate::{autodiff, check, optim, passes};

/// What to compile.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The file.
    pub file: FileId,
    /// Which of its models; `None` if it has only one.
    pub model: Option<&'a str>,
    /// `--set PATH=EXPR`, in order.
    pub overrides: &'a [Override],
    /// Keep model-level calls and equations for replay.
    pub taps: bool,
}

/// Parse, elaborate, check: the model and warnings, or everything that is wrong with it.
pub fn check(
    sources: &mut Sources,
    loader: &dyn Loader,
    request: &Request,
) -> Result<(Model, Vec<Diagnostic>), Vec<Diagnostic>> {
    let model = elaborate::elaborate(sources, loader, request.file, request.model, request.overrides)?;
    let mut found = check::check(&model);
    if found.iter().all(|d| d.severity != Severity::Error) {
        found.extend(check::check_masks(&model, &build::build(&model, build::Options::default())));
    }
    if found.iter().any(|d| d.severity == Severity::Error) { Err(found) } else { Ok((model, found)) }
}

/// The whole pipeline: text in, program and warnings out.
pub fn compile(
    sources: &mut Sources,
    loader: &dyn Loader,
    request: &Request,
) -> Result<(Program, Vec<Diagnostic>), Vec<Diagnostic>> {
    let (model, warnings) = check(sources, loader, request)?;
    let resolved = elaborate::resolved(sources, request.file, &model.name, request.overrides)?;
    Ok((program(&model, request.taps, resolved), warnings))
}

/// Idioms of a checked model that no recogniser took and that run as the small operations they were written in.
pub fn unfused(model: &Model) -> Vec<String> {
    let Built { tables, mut forward, .. } = build::build(model, build::Options::default());
    passes::run_passes(&tables, &mut forward, passes::before_gradient());
    passes::unfused(&forward)
}

/// A checked model to a program. Whatever fails here is a compiler bug.
pub fn program(model: &Model, taps: bool, resolved: String) -> Program {
    let built = build::build(model, build::Options { taps });
    lower(model, built, resolved, |_, _, _| ())
}

/// [`program`], showing every intermediate graph of the training step to `watch(stage, tables, graph)`.
pub fn lower(model: &Model, built: Built, resolved: String, mut watch: impl FnMut(&str, &Tables, &Graph)) -> Program {
    let Built { mut tables, schedules, scalars, init, draw, requires, mut forward, mut metrics, mut backbone } = built;
    watch("build", &tables, &forward);
    passes::run_passes(&tables, &mut forward, passes::before_gradient());
    watch("recognise", &tables, &forward);
    differentiate(&mut tables, &mut forward, &model.train.optimizer);
    watch("differentiate", &tables, &forward);
    let precision = if model.train.precision == DType::Bf16 { passes::bf16() } else { &[] };
    passes::run_passes(&tables, &mut forward, passes::after_gradient());
    passes::run_passes(&tables, &mut forward, precision);
    watch("optimise", &tables, &forward);
    let update = optim::update(&tables, &model.train.optimizer, &scalars);
    watch("update", &tables, &update);
    for graph in [&mut metrics, &mut backbone] {
        passes::run_passes(&tables, graph, passes::before_gradient());
        passes::run_passes(&tables, graph, passes::after_gradient());
        passes::run_passes(&tables, graph, precision);
    }
    let train = &model.train;
    let run = RunSettings {
        data: train.data.clone(),
        batch: train.batch,
        group: train.group.unwrap_or(0),
        steps: train.steps,
        seed: train.seed,
        precision: if train.precision == DType::Bf16 { "bf16".into() } else { "f32".into() },
    };
    let masks = requires.iter().enumerate().map(|(k, n)| mask_outputs(k, *n)).collect();
    let entries = [init, draw, forward, update, metrics, backbone];
    Program { name: model.name.clone(), tables, schedules, masks, entries, run: Some(run), resolved }
}

fn mask_outputs(mask: usize, requires: usize) -> MaskOutputs {
    MaskOutputs {
        context: format!("mask.{mask}.context"),
        target: format!("mask.{mask}.target"),
        require: (0..requires).map(|i| format!("mask.{mask}.require.{i}")).collect(),
    }
}

/// Adds gradients, the slots they are added into, and the optimiser's state. Weights that the loss does not reach
/// become [`SlotKind::Unused`].
fn differentiate(tables: &mut Tables, graph: &mut Graph, optimizer: &Optimizer) {
    let wrt: Vec<SlotId> = (0..tables.slots.len() as u32)
        .map(SlotId)
        .filter(|s| matches!(tables.slots[s.0 as usize].kind, SlotKind::Trained { .. }))
        .collect();
    let loss = graph.output("loss").expect("compiler bug: a model without a loss");
    let gradients = autodiff::gradients(tables, graph, loss, &wrt).unwrap_or_else(|bug| panic!("compiler bug: {bug}"));
    for (of, gradient) in gradients {
        match gradient {
            None => tables.slots[of.0 as usize].kind = SlotKind::Unused,
            Some(value) => accumulate(tables, graph, of, value, optimizer),
        }
    }
}

fn accumulate(tables: &mut Tables, graph: &mut Graph, of: SlotId, value: Value, optimizer: &Optimizer) {
    let (key, shape) = (tables.slots[of.0 as usize].key.clone(), tables.slots[of.0 as usize].shape.clone());
    let mut add = |prefix: &str, kind: SlotKind| {
        tables.slots.push(Slot { key: format!("{prefix}.{key}"), shape: shape.clone(), kind });
        SlotId(tables.slots.len() as u32 - 1)
    };
    let slot = add("grad", SlotKind::Gradient { of });
    let moments: &[&str] = match optimizer {
        Optimizer::Adamw { .. } => &["exp_avg", "exp_avg_sq"],
        Optimizer::Sgd { momentum, .. } if *momentum != 0.0 => &["momentum_buffer"],
        Optimizer::Sgd { .. } => &[],
    };
    for name in moments {
        add(name, SlotKind::Moment { of, name: (*name).into() });
    }
    let ty: Type = graph.ty(value).clone();
    let place = format!("grad.{key}").as_str().into();
    graph.add(Op::Accumulate(slot), &[value], vec![ty], None, &place);
}
