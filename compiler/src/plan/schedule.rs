//! The order of execution: inputs before users, everything as late as its first user allows; what nothing needs is left
//! out.
//!
//! The order is a walk from the effects and outputs to what they need, those of the shortest way from the leaves first.
//! Backward, that is layer by layer: a weight's gradient is computed and added to its slot as soon as both its operands are
//! there, and activations go with the layer that needs them. Of several missing inputs the walk takes
//!
//! 1. those that leave less behind than they need on the way (all of a target encoder for the rows it gives): the more
//!    that lives already, the dearer they would be;
//! 2. then the one with the longest way from the leaves, the present gradient rather than a cast of a weight.
//!
//! Slots are read as they were when the run began, so reads come first, and effects on a slot keep their order. A walk
//! costs O(nodes * edges) at worst, some milliseconds for some thousand nodes.

use std::collections::HashMap;

use crate::ir::graph::{Graph, SlotId, Type};
use crate::ir::kind::Kind;
use crate::ir::op::Op;
use petgraph::stable_graph::NodeIndex;

/// The nodes in the order of execution; `size` is roughly what a value of a type takes.
pub fn schedule(graph: &Graph, size: impl Fn(&Type) -> usize) -> Vec<NodeIndex> {
    let nodes = needed(graph);
    let web = Web::new(graph, &nodes, size);
    let mut sinks: Vec<usize> = (0..nodes.len()).filter(|&n| web.sink[n]).collect();
    sinks.sort_by_key(|&n| (web.depth[n], n));
    let reads = (0..nodes.len()).filter(|&n| matches!(graph.nodes[nodes[n]].op, Op::Read(_)));
    let mut order = Vec::with_capacity(nodes.len());
    let mut done = vec![false; nodes.len()];
    for n in reads.chain(sinks) {
        web.walk(n, &mut done, &mut order);
    }
    order.into_iter().map(|n| nodes[n]).collect()
}

/// Nodes by their place in a topological order, and what the walk asks about them.
struct Web {
    /// Nodes that must come before.
    before: Vec<Vec<usize>>,
    /// Nodes that read a value, through views too.
    users: Vec<Vec<usize>>,
    /// The node whose storage a view is likely to show; others themselves.
    root: Vec<usize>,
    /// Length of the longest way from a leaf.
    depth: Vec<usize>,
    /// What the results take; nothing for views, effects and what is there from the start.
    size: Vec<usize>,
    /// Effects and outputs.
    sink: Vec<bool>,
    /// One bit for each node that a node needs.
    needs: Vec<Vec<u64>>,
}

impl Web {
    fn new(graph: &Graph, nodes: &[NodeIndex], size: impl Fn(&Type) -> usize) -> Web {
        let place: HashMap<NodeIndex, usize> = nodes.iter().enumerate().map(|(p, n)| (*n, p)).collect();
        let none = vec![vec![]; nodes.len()];
        let mut web = Web {
            before: none.clone(),
            users: none,
            root: (0..nodes.len()).collect(),
            depth: vec![0; nodes.len()],
            size: vec![0; nodes.len()],
            sink: vec![false; nodes.len()],
            needs: vec![vec![0; nodes.len().div_ceil(64)]; nodes.len()],
        };
        let mut changed: HashMap<SlotId, usize> = HashMap::new();
        for (n, &index) in nodes.iter().enumerate() {
            let node = &graph.nodes[index];
            let mut before: Vec<usize> = graph.inputs(index).iter().map(|v| place[&v.node]).collect();
            if node.op.kind() == Kind::View {
                web.root[n] = web.root[before[0]];
            } else {
                before.iter().for_each(|&b| web.users[web.root[b]].push(n));
                web.size[n] = if free(&node.op) { 0 } else { node.types.iter().map(&size).sum() };
            }
            before.extend(node.op.written().filter_map(|slot| changed.insert(slot, n)));
            before.sort_unstable();
            before.dedup();
            web.depth[n] = before.iter().map(|b| web.depth[*b] + 1).max().unwrap_or(0);
            web.sink[n] = node.op.is_effect();
            let mut needs = std::mem::take(&mut web.needs[n]);
            for &b in &before {
                needs.iter_mut().zip(&web.needs[b]).for_each(|(all, more)| *all |= more);
                needs[b / 64] |= 1 << (b % 64);
            }
            web.needs[n] = needs;
            web.before[n] = before;
        }
        graph.outputs.iter().for_each(|(_, v)| web.sink[place[&v.node]] = true);
        web
    }

    /// Puts `sink` and what it needs in order.
    fn walk(&self, sink: usize, done: &mut [bool], order: &mut Vec<usize>) {
        // Nodes with what they still wait for, the next one last.
        let mut open = vec![(sink, self.missing(sink, done))];
        while let Some((n, waits)) = open.last_mut() {
            let n = *n;
            match waits.pop() {
                Some(next) if done[next] => {}
                Some(next) => open.push((next, self.missing(next, done))),
                None => {
                    open.pop();
                    if !std::mem::replace(&mut done[n], true) {
                        order.push(n);
                    }
                }
            }
        }
    }

    /// What a node waits for, the first to be computed last.
    fn missing(&self, n: usize, done: &[bool]) -> Vec<usize> {
        let mut waits: Vec<usize> = self.before[n].iter().copied().filter(|b| !done[*b]).collect();
        if waits.len() > 1 {
            waits.sort_by_cached_key(|&b| (self.shrinks(self.root[b]), self.depth[b], std::cmp::Reverse(b)));
        }
        waits
    }

    /// How much more room computing `n` and all that it needs takes on the way than at the end; 0 if it leaves much for
    /// others.
    fn shrinks(&self, n: usize) -> usize {
        let inside = |m: usize| self.needs[n][m / 64] >> (m % 64) & 1 == 1;
        let (mut left, mut most) = (self.size[n], 0);
        for m in (0..=n).rev().filter(|&m| m == n || inside(m)) {
            if m != n && self.users[m].iter().any(|&u| u != n && !inside(u)) {
                left += self.size[m];
            }
            if left > self.size[n] + self.size[n] / 2 {
                return 0;
            }
            most = most.max(self.size[m] + self.before[m].iter().map(|b| self.size[self.root[*b]]).sum::<usize>());
        }
        most.saturating_sub(left)
    }
}

/// Ops whose result is there from the start or lands in a slot.
fn free(op: &Op) -> bool {
    op.is_effect() || matches!(op, Op::Read(_) | Op::Input(_))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ir::graph::{Dim, InputId, Outer, Value};
    use crate::ir::op::{BinaryOp, DType, ReduceOp, UnaryOp};

    /// A graph of values of type [8, 8], or of [8].
    #[derive(Default)]
    struct Small(Graph);

    impl Small {
        fn add(&mut self, op: Op, inputs: &[Value], rank: usize) -> Value {
            let place: Arc<str> = "".into();
            let ty = Type::new(DType::F32, Outer::One, vec![Dim::fixed(8, "d"); rank]);
            self.0.add(op, inputs, vec![ty], None, &place)
        }

        fn exp(&mut self, x: Value) -> Value {
            self.add(Op::Unary(UnaryOp::Exp), &[x], 2)
        }

        fn mul(&mut self, a: Value, b: Value) -> Value {
            self.add(Op::Binary(BinaryOp::Mul), &[a, b], 2)
        }

        /// When each value is computed.
        fn positions(&self, values: &[Value]) -> Vec<usize> {
            let order = schedule(&self.0, |ty| 8usize.pow(ty.dims.len() as u32));
            values.iter().map(|v| order.iter().position(|n| *n == v.node).unwrap()).collect()
        }
    }

    #[test]
    fn gradients_are_added_at_once() {
        let mut g = Small::default();
        let mut forward = vec![g.add(Op::Input(InputId(0)), &[], 2)];
        for i in 0..4 {
            let y = g.exp(forward[i]);
            forward.push(y);
        }
        let mut gradient = forward[4];
        let (mut back, mut weights) = (vec![], vec![]);
        for i in (0..4).rev() {
            weights.push(g.mul(gradient, forward[i]));
            gradient = g.mul(gradient, forward[i + 1]);
            back.push(gradient);
        }
        // Accumulated last, as differentiation leaves them.
        let slots: Vec<Value> = (0..4).map(|i| g.add(Op::Accumulate(SlotId(i)), &[weights[i as usize]], 2)).collect();
        // Nobody asks for the last gradient.
        let (slots, back) = (g.positions(&slots), g.positions(&back[..3]));
        for i in 0..2 {
            assert!(slots[i] < back[i + 1], "{slots:?} {back:?}");
        }
    }

    #[test]
    fn what_leaves_little_behind_goes_first() {
        let mut g = Small::default();
        let x = g.add(Op::Input(InputId(0)), &[], 2);
        let mut kept = vec![x];
        for i in 0..5 {
            let y = g.exp(kept[i]);
            kept.push(y);
        }
        let one = g.exp(x);
        let two = g.exp(one);
        let row = g.add(Op::Reduce { op: ReduceOp::Sum, axes: vec![0] }, &[two], 1);
        let row = g.add(Op::Arrange { from: vec![None, Some(0)] }, &[row], 2);
        let mut y = g.mul(kept[5], row);
        for &value in &kept[1..5] {
            y = g.mul(y, value);
        }
        g.0.outputs.push(("y".into(), y));
        let at = g.positions(&[one, kept[1]]);
        assert!(at[0] < at[1], "{at:?}");
    }

    #[test]
    fn effects_on_a_slot_keep_their_order() {
        let mut g = Small::default();
        let x = g.add(Op::Input(InputId(0)), &[], 2);
        let (a, b) = (g.exp(x), g.mul(x, x));
        let a = g.exp(a);
        let effects = [a, b, a].map(|v| g.add(Op::Accumulate(SlotId(0)), &[v], 2));
        let old = g.add(Op::Read(SlotId(0)), &[], 2);
        g.0.outputs.push(("old".into(), old));
        let at = g.positions(&[old, effects[0], effects[1], effects[2]]);
        assert!(at.is_sorted(), "{at:?}");
    }
}
