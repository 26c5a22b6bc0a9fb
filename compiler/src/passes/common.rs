//! Makes one node of nodes that compute the same: equal op, operands and types.
//!
//! Nodes are visited operands first, so that equal chains collapse in one walk. Effects are never merged, nor reads of
//! a slot that the entry changes. A draw is a function of its key, so equal draws are one draw.

use std::collections::{BTreeSet, HashMap};

use crate::ir::graph::{Graph, SlotId, Tables, Value};
use crate::ir::op::Op;

/// Merges equal nodes; returns how many went.
pub fn common(_: &Tables, graph: &mut Graph) -> usize {
    let written: BTreeSet<SlotId> = graph.nodes.node_weights().flat_map(|n| n.op.written()).collect();
    let mut known: HashMap<String, Vec<Value>> = HashMap::new();
    let mut count = 0;
    for node in graph.order() {
        let op = &graph.nodes[node].op;
        if op.is_effect() || matches!(op, Op::Read(slot) if written.contains(slot)) {
            continue;
        }
        let ports: Vec<_> = (0..graph.nodes[node].types.len()).map(|p| Value { node, port: p as u8 }).collect();
        match known.get(&key(graph, node.into())) {
            None => {
                known.insert(key(graph, node.into()), ports);
            }
            Some(first) => {
                for (old, new) in ports.into_iter().zip(first.clone()) {
                    graph.replace(old, new);
                }
                graph.nodes.remove_node(node);
                count += 1;
            }
        }
    }
    count
}

/// Everything that a node's value depends on, as text; names of dims are left out.
fn key(graph: &Graph, value: Value) -> String {
    let node = &graph.nodes[value.node];
    let inputs: Vec<_> = graph.inputs(value.node).iter().map(|v| (v.node.index(), v.port)).collect();
    let types: Vec<_> = node.types.iter().map(|t| (t.dtype, t.outer, t.extents())).collect();
    format!("{:?} {inputs:?} {types:?}", node.op)
}
