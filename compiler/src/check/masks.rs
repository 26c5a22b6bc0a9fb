//! Error V0401: a mask that leaves nothing to see, or nothing to predict, in any of a number of trial draws.

use crate::build::Built;
use crate::diag::Diagnostic;
use crate::ir::eval::{self, Env, Tensor};
use crate::ir::graph::Segments;
use crate::model::{Mask, Model};

/// Clips drawn to see whether a mask can work at all; the first good one of each mask ends the search.
pub const TRIAL_DRAWS: usize = 32;

/// Why a draw of a mask is no good.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// Its `require` number so and so does not hold.
    Require(usize),
    /// No token is visible.
    Context,
    /// No token is to be predicted.
    Target,
}

pub fn check(model: &Model, built: &Built) -> Vec<Diagnostic> {
    // Not yet drawn counts as bad, for a reason that the first draw replaces.
    let mut faults = vec![Some(Fault::Context); model.masks.len()];
    for trial in 0..TRIAL_DRAWS as u64 {
        if faults.iter().all(Option::is_none) {
            break;
        }
        let segments = Segments { clips: 1, sets: vec![] };
        // Trials are spread over the run: what a schedule allows at its start may fail at its end.
        let steps = model.train.steps as u64;
        let scalars =
            built.scalars_at(1 + trial * steps.saturating_sub(1) / (TRIAL_DRAWS as u64 - 1), model.train.steps);
        let mut env = Env { segments, seed: model.train.seed, step: trial + 1, scalars, ..Env::default() };
        let outputs = eval::eval(&built.tables, &built.draw, &mut env)
            .unwrap_or_else(|bug| unreachable!("compiler bug: trial draw: {bug}"));
        for (k, fault) in faults.iter_mut().enumerate().filter(|(_, fault)| fault.is_some()) {
            *fault = judge(&outputs, k, built.requires[k]);
        }
    }
    let bad = model.masks.iter().zip(faults).filter_map(|(mask, fault)| fault.map(|f| complaint(model, mask, f)));
    bad.collect()
}

/// What is wrong with the draw of mask k, if anything.
fn judge(outputs: &[(String, Tensor)], k: usize, requires: usize) -> Option<Fault> {
    let any = |name: String| {
        let found = outputs.iter().find(|(n, _)| *n == name);
        let (_, tensor) = found.expect("compiler bug: a mask that is not drawn");
        tensor.blocks.iter().flatten().any(|v| *v != 0.0)
    };
    if let Some(i) = (0..requires).find(|i| !any(format!("mask.{k}.require.{i}"))) {
        return Some(Fault::Require(i));
    }
    if !any(format!("mask.{k}.context")) {
        return Some(Fault::Context);
    }
    (!any(format!("mask.{k}.target"))).then_some(Fault::Target)
}

fn complaint(model: &Model, mask: &Mask, fault: Fault) -> Diagnostic {
    let name = &mask.name;
    let (message, node, label, help) = match fault {
        Fault::Require(i) => (
            "this mask never keeps what it requires",
            mask.require[i],
            format!("its `require` held in none of {TRIAL_DRAWS} trial draws of `{name}`"),
            "ask for less: other block sizes, or a grid with more tokens",
        ),
        Fault::Context => (
            "this mask leaves nothing to see",
            mask.context,
            format!("every token was masked in each of {TRIAL_DRAWS} trial draws of `{name}`"),
            "use fewer or smaller blocks, for example `blocks = 2, area = 70%`",
        ),
        Fault::Target => (
            "this mask leaves nothing to predict",
            mask.target,
            format!("no token was masked in each of {TRIAL_DRAWS} trial draws of `{name}`"),
            "use more or larger blocks",
        ),
    };
    Diagnostic::error("V0401", message, model.node(node).span, label)
        .help(help)
        .note("a draw like this is drawn again, at most 64 times, then training stops")
}
