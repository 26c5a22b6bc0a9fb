//! Two weights with one key would overwrite each other in a checkpoint, and absurd sizes are a mistake, not a plan.

use std::collections::BTreeMap;

use crate::diag::Diagnostic;
use crate::model::Model;

/// More weights than this in one model is taken for a mistake (a number chosen by feel: a thousand times GPT-3's count
/// would still not fit any machine this runs on).
const MOST_WEIGHTS: f64 = 1e12;

pub fn check(model: &Model) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut seen = BTreeMap::new();
    for w in &model.weights {
        if let Some(first) = seen.insert(&w.key, w.span) {
            found.push(
                Diagnostic::error("V0110", format!("two weights would be stored as `{}`", w.key), w.span, "this one")
                    .label(first, "and this one")
                    .help("give one of the fields another name, or a key of its own: `name \"key\" = ...`"),
            );
        }
    }
    let count: f64 = model.weights.iter().map(|w| w.stored.iter().map(|n| *n as f64).product::<f64>()).sum();
    if count > MOST_WEIGHTS
        && let Some(largest) =
            model.weights.iter().max_by_key(|w| w.stored.iter().map(|n| *n as u128).product::<u128>())
    {
        found.push(
            Diagnostic::error(
                "V0112",
                format!("this model has {count:.1e} weights"),
                largest.span,
                format!("`{}` alone is {:?}", largest.key, largest.stored),
            )
            .help("a size is probably wrong: `vjepac settings` lists them"),
        );
    }
    found
}
