//! Graph to graph: the ordered list of passes, one file each.
//!
//! [`before_gradient`] makes the forward pass small: idioms that the standard library spells out in small operations
//! become single ops with known gradients, and rows that nobody reads are not computed. [`after_gradient`] tidies what
//! differentiation and the update rules added. Every pass keeps the graph valid, which is checked around each one in debug
//! and test builds, and keeps its meaning within the tolerance in its header. [`bf16`] chooses element types.

mod common;
mod dead;
mod precision;
mod recognise_attention;
mod recognise_gelu;
mod recognise_layer_norm;
mod recognise_linear;
mod recognise_patches;
mod recognise_softmax;
pub(crate) mod rewrite;
mod rows;
mod simplify;
mod unfused;

use crate::ir::graph::{Graph, Tables};
use crate::ir::verify::verify;

pub use unfused::unfused;

/// A pass: what it is called, and what it does. It returns how many changes it made.
pub struct Pass {
    /// Its name, as `vjepac ir --stage` takes it and tests name it.
    pub name: &'static str,
    /// Changes the graph; returns how many changes it made.
    pub run: fn(&Tables, &mut Graph) -> usize,
}

const DEAD: Pass = Pass { name: "dead", run: dead::dead };
const COMMON: Pass = Pass { name: "common", run: common::common };
const SIMPLIFY: Pass = Pass { name: "simplify", run: simplify::simplify };
const SOFTMAX: Pass = Pass { name: "recognise_softmax", run: recognise_softmax::recognise_softmax };
const ATTENTION: Pass = Pass { name: "recognise_attention", run: recognise_attention::recognise_attention };
const PATCHES: Pass = Pass { name: "recognise_patches", run: recognise_patches::recognise_patches };
const LINEAR: Pass = Pass { name: "recognise_linear", run: recognise_linear::recognise_linear };
const LAYER_NORM: Pass = Pass { name: "recognise_layer_norm", run: recognise_layer_norm::recognise_layer_norm };
const GELU: Pass = Pass { name: "recognise_gelu", run: recognise_gelu::recognise_gelu };
const ROWS: Pass = Pass { name: "rows", run: rows::rows };
const BF16: Pass = Pass { name: "precision", run: precision::precision };

/// Passes over an entry as it was built.
pub fn before_gradient() -> &'static [Pass] {
    // Recognisers compare operands, so equal chains are one before they start. Attention looks for softmaxes, and goes
    // before linear, which would take a product with a learned query for itself.
    &[
        DEAD, SIMPLIFY, COMMON, SIMPLIFY, COMMON, SOFTMAX, SIMPLIFY, ATTENTION, PATCHES, LINEAR, LAYER_NORM, GELU,
        SIMPLIFY, COMMON, ROWS, SIMPLIFY, COMMON, ROWS,
    ]
}

/// The pass of that name and those that it expects to have run before it, for tests.
pub fn up_to(name: &str) -> Option<&'static [Pass]> {
    [before_gradient(), bf16()].into_iter().find_map(|list| {
        let last = list.iter().position(|p| p.name == name)?;
        Some(&list[..=last])
    })
}

/// Passes over an entry with its gradients and updates.
pub fn after_gradient() -> &'static [Pass] {
    &[DEAD, SIMPLIFY, COMMON, SIMPLIFY, COMMON]
}

/// What follows [`after_gradient`] in a run of `precision = "bf16"`; nothing follows it in f32.
pub fn bf16() -> &'static [Pass] {
    &[DEAD, BF16, SIMPLIFY, COMMON]
}

/// Runs passes in order; returns the number of changes of each. What a pass no longer uses is removed before the next one,
/// so that "read by nothing else" means what it says.
pub fn run_passes(tables: &Tables, graph: &mut Graph, list: &[Pass]) -> Vec<(&'static str, usize)> {
    check(tables, graph, "the start");
    list.iter()
        .map(|pass| {
            let changes = (pass.run)(tables, graph);
            dead::dead(tables, graph);
            check(tables, graph, pass.name);
            (pass.name, changes)
        })
        .collect()
}

/// Debug builds verify the graph around every pass: an invalid graph is a mistake of the pass.
fn check(tables: &Tables, graph: &Graph, after: &str) {
    if cfg!(debug_assertions)
        && let Err(reason) = verify(tables, graph)
    {
        panic!("compiler bug: after {after}: {reason}");
    }
}
