//! Error V0401: a mask that leaves nothing to see, or nothing to predict, in any of a number of trial draws.

use crate::build::Built;
use crate::diag::Diagnostic;
use crate::ir::eval::{self, Env};
use crate::ir::graph::Segments;
use crate::model::Model;

/// Clips drawn to see whether a mask can work at all; the first good one of each mask ends the search.
pub const TRIAL_DRAWS: usize = 32;

pub fn check(model: &Model, built: &Built) -> Vec<Diagnostic> {
    let mut good = vec![false; model.masks.len()];
    for trial in 0..TRIAL_DRAWS as u64 {
        if good.iter().all(|g| *g) {
            break;
        }
        let segments = Segments { clips: 1, sets: vec![] };
        let mut env = Env { segments, seed: model.train.seed, step: trial + 1, ..Env::default() };
        let outputs = match eval::eval(&built.tables, &built.draw, &mut env) {
            Ok(outputs) => outputs,
            Err(bug) => unreachable!("compiler bug: trial draw: {bug}"),
        };
        let holds = |name: &str, all: bool| {
            outputs.iter().filter(|(n, _)| n.starts_with(name)).all(|(_, t)| {
                let mut values = t.blocks.iter().flatten();
                if all { values.all(|v| *v != 0.0) } else { values.any(|v| *v != 0.0) }
            })
        };
        for (k, good) in good.iter_mut().enumerate() {
            *good |= holds(&format!("mask.{k}.require."), true)
                && holds(&format!("mask.{k}.context"), false)
                && holds(&format!("mask.{k}.target"), false);
        }
    }
    model
        .masks
        .iter()
        .zip(good)
        .filter(|(_, good)| !good)
        .map(|(mask, _)| {
            Diagnostic::error(
                "V0401",
                "this mask leaves nothing to see, or nothing to predict",
                model.node(mask.target).span,
                format!("none of {TRIAL_DRAWS} trial draws of `{}` had both context and target tokens", mask.name),
            )
            .help("use fewer or smaller blocks, for example `blocks = 2, area = 70%`")
            .note("a draw whose context or target is empty is drawn again, at most 64 times, then training stops")
        })
        .collect()
}
