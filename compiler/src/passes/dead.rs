//! Removes nodes that lead to no output and to no effect.
//!
//! Passes replace uses and leave the old nodes behind; this one sweeps them up. It relies on nothing and costs one walk.

use std::collections::BTreeSet;

use crate::ir::graph::{Graph, Tables};

/// Removes what nobody reads; returns how many nodes went.
pub fn dead(_: &Tables, graph: &mut Graph) -> usize {
    let mut alive = BTreeSet::new();
    let mut todo: Vec<_> = graph.outputs.iter().map(|(_, v)| v.node).collect();
    todo.extend(graph.nodes.node_indices().filter(|n| graph.nodes[*n].op.is_effect()));
    while let Some(node) = todo.pop() {
        if alive.insert(node) {
            todo.extend(graph.nodes.neighbors_directed(node, petgraph::Direction::Incoming));
        }
    }
    let before = graph.nodes.node_count();
    graph.nodes.retain_nodes(|_, n| alive.contains(&n));
    before - graph.nodes.node_count()
}
