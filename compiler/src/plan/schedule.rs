//! The order of execution: inputs before users, effects as early as their input allows; what nothing needs is left out.
//!
//! Slots are read as they were when the run began, so reads come first. A gradient that is added to its slot at once need
//! not be kept until the end of the backward pass; it is moved only past steps that do not change its slot.

use crate::ir::graph::{Graph, SlotId};
use crate::ir::op::Op;
use petgraph::stable_graph::NodeIndex;

/// The nodes in the order of execution.
pub fn schedule(graph: &Graph) -> Vec<NodeIndex> {
    let order = needed(graph);
    let bound = order.iter().map(|n| n.index() + 1).max().unwrap_or(0);
    let mut position = vec![0; bound];
    for (p, n) in order.iter().enumerate() {
        position[n.index()] = p;
    }
    let mut last_change = std::collections::HashMap::<SlotId, usize>::new();
    // Key: the position after which the node may run, then its own.
    let mut keyed = Vec::with_capacity(order.len());
    for (p, &n) in order.iter().enumerate() {
        let op = &graph.nodes[n].op;
        let mut after = p;
        if let Op::Read(_) = op {
            after = 0;
        } else if let Op::Accumulate(slot) = op {
            let input = graph.inputs(n).iter().map(|v| position[v.node.index()]).max().unwrap_or(p);
            after = last_change.get(slot).map_or(input, |t| input.max(*t));
        }
        keyed.push((after, p, n));
        for slot in op.written() {
            last_change.insert(slot, p);
        }
    }
    keyed.sort_by_key(|k| (k.0, k.1));
    keyed.into_iter().map(|k| k.2).collect()
}

/// Nodes that outputs or effects need, inputs before users.
fn needed(graph: &Graph) -> Vec<NodeIndex> {
    let order = graph.order();
    let mut need: std::collections::HashSet<NodeIndex> = graph.outputs.iter().map(|o| o.1.node).collect();
    for n in order.iter().rev() {
        if need.contains(n) || graph.nodes[*n].op.is_effect() {
            need.insert(*n);
            need.extend(graph.inputs(*n).iter().map(|v| v.node));
        }
    }
    order.into_iter().filter(|n| need.contains(n)).collect()
}
