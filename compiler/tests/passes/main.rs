//! Passes on text IR, on a whole step, and on random graphs: the result computes the same.

mod files;
mod model;
mod random;
mod world;

use std::collections::BTreeMap;

use vjepac::ir::graph::Graph;
use vjepac::ir::print::{op_text, print};
use vjepac::passes::{before_gradient, run_passes, unfused};

use world::assert_same;

fn op_counts(graph: &Graph) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for node in graph.nodes.node_weights() {
        *counts.entry(op_text(&node.op).0).or_default() += 1;
    }
    counts
}

/// Every idiom of a V-JEPA step becomes one op, and only rows that are read are computed.
#[test]
fn a_whole_step() {
    let (tables, before) = model::step();
    let mut after = before.clone();
    run_passes(&tables, &mut after, before_gradient());
    assert_same(&tables, &before, &after, "a_whole_step");
    let counts = op_counts(&after);
    let text = print(&after);
    for gone in ["einsum", "exp", "erf", "sqrt"] {
        assert!(!counts.contains_key(gone), "{gone} is left in\n{text}");
    }
    // Three networks of two blocks: attention and GELU in each, two norms in each, one norm behind each, one on targets.
    for (op, n) in [("attention", 6), ("gelu", 6), ("layer_norm", 16), ("linear", 28), ("patches", 2)] {
        assert_eq!(counts[op], n, "{op} in\n{text}");
    }
    assert!(text.contains("= patches {tube=2, dy=4, dx=4} %0, %1"), "patches take the context's index\n{text}");
    assert_eq!(unfused(&after), Vec::<String>::new());
}
