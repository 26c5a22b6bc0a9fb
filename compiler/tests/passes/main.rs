//! Passes on text IR, on a whole step, and on random graphs: the result computes the same.

mod files;
mod model;
mod random;
mod world;

use std::collections::BTreeMap;

use vjepac::ir::graph::Graph;
use vjepac::ir::parse_text::parse_module;
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

/// What no recogniser takes is named, so that `explain` can say why a model is slow.
#[test]
fn what_runs_unfused_is_named() {
    let text = r#"
network 0 "encoder"
slot s0 "position" [12, 12] trained 0 decay
input i0 image "x" frames 1 every 1 size 4
%0: f32 clips [4, 4, 3] = input {i0}
%1: f32 clips [12, 4] = reshape %0
%2: f32 clips [12, 12] = einsum {nd,md->nm} %1, %1
%3: f32 one [12, 12] = read {s0}
%4: f32 clips [12, 12] = arrange {from=[0, 1]} %3
%5: f32 clips [12, 12] = add %2, %4
%6: f32 clips [12, 12] = softmax %5   # blocks.0.attn
%7: f32 clips [12, 4] = einsum {nm,me->ne} %6, %1
%8: f32 clips [4, 4, 3] = exp %0
%9: f32 clips [4] = reduce {sum, axes=[1, 2]} %8
%10: f32 clips [4, 4, 3] = arrange {from=[0, _, _]} %9
%11: f32 clips [4, 4, 3] = div %8, %10   # head
output "y" = %7
output "z" = %11
"#;
    let (tables, mut graph) = parse_module(text).unwrap();
    run_passes(&tables, &mut graph, before_gradient());
    let lines = unfused(&graph);
    assert!(lines.len() == 2, "{lines:?}");
    assert!(lines.iter().any(|l| l.starts_with("the attention at `blocks.0.attn` runs unfused")), "{lines:?}");
    assert!(lines.iter().any(|l| l.starts_with("the softmax at `head` runs unfused")), "{lines:?}");
}
