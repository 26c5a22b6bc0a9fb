//! Values that are cheaper to compute again than to keep.
//!
//! What the backward pass reads of the forward one lives through most of a step. A norm, an activation or a cast of
//! something that lives as long anyway costs a pass over memory, and half of what a transformer keeps is made of such: so
//! the late readers of such a value get a copy of its node, which the schedule puts just before the first of them. Where
//! memory is short, [`super::fit`] says which dearer values are treated alike. Bits do not change: the same operation on
//! the same operands.

use std::collections::{BTreeSet, HashMap};

use crate::ir::graph::{Graph, Value};
use crate::ir::kind::Kind;
use crate::ir::op::Op;
use crate::passes::rewrite::{is_output, rewire};
use petgraph::stable_graph::NodeIndex;

/// A value is kept for readers within so many steps. By feel: a block of a transformer has about as many.
pub const NEAR: usize = 24;
/// An operand whose last reader is at most so many steps before a late reader lives long enough: its life grows by those.
pub const SLACK: usize = 16;

/// Gives late readers copies of cheap nodes, and of those in `again`; `order` is the schedule without them. Returns how
/// many nodes were copied.
pub fn recompute(graph: &mut Graph, order: &[NodeIndex], again: &BTreeSet<NodeIndex>) -> usize {
    let positions: HashMap<NodeIndex, usize> = order.iter().enumerate().map(|(p, n)| (*n, p)).collect();
    let lives = order.iter().map(|n| (*n, last_read(graph, &positions, *n))).collect();
    let mut late = Late { again, lives, copies: HashMap::new(), originals: HashMap::new() };
    for &node in order {
        if !late.may_copy(graph, node) || is_shown(graph, node) {
            continue;
        }
        let here = positions[&node];
        let far = |user: &NodeIndex| positions.get(user).is_some_and(|p| *p > here + NEAR);
        let users: Vec<(Value, NodeIndex, u16)> = users(graph, node).filter(|(_, user, _)| far(user)).collect();
        let Some(first) = users.iter().map(|(_, user, _)| positions[user]).min() else { continue };
        if late.possible(graph, node, first) {
            let copy = late.copy(graph, node, first);
            for (value, user, place) in users {
                rewire(graph, user, place as usize, Value { node: copy, port: value.port });
            }
            for node in [node, copy] {
                late.lives.insert(node, last_read(graph, &positions, node));
            }
        }
    }
    late.originals.len()
}

/// Gives readers far from the first ones a view of their own: a view that both share would keep its operand alive.
pub fn part_views(graph: &mut Graph, order: &[NodeIndex]) {
    let positions: HashMap<NodeIndex, usize> = order.iter().enumerate().map(|(p, n)| (*n, p)).collect();
    // Readers come before what they read, so that a view of a view is parted after the views of it were.
    for &node in order.iter().rev() {
        if graph.nodes[node].op.kind() != Kind::View {
            continue;
        }
        let value = Value::from(node);
        let mut users: Vec<_> =
            graph.users(value).into_iter().map(|(u, i)| (read_at(graph, &positions, u), u, i)).collect();
        users.sort_unstable();
        let Some((mut first, ..)) = users.first().copied() else { continue };
        let mut view = value;
        for (at, user, place) in users {
            if at > first + NEAR {
                first = at;
                let original = graph.nodes[node].clone();
                let inputs = graph.inputs(node);
                view = graph.add(original.op, &inputs, original.types, original.span, &original.place);
            }
            if view != value {
                rewire(graph, user, place as usize, view);
            }
        }
    }
}

/// When a node first does something with its operands: views wait for their readers.
fn read_at(graph: &Graph, positions: &HashMap<NodeIndex, usize>, node: NodeIndex) -> usize {
    if graph.nodes[node].op.kind() != Kind::View || is_shown(graph, node) {
        return positions.get(&node).copied().unwrap_or(usize::MAX);
    }
    users(graph, node).map(|(_, user, _)| read_at(graph, positions, user)).min().unwrap_or(usize::MAX)
}

/// Ops that cost about one pass over their operands and result.
pub fn cheap(graph: &Graph, node: NodeIndex) -> bool {
    let node = &graph.nodes[node];
    let op = match (&node.op, node.op.kind()) {
        (Op::LayerNorm { .. } | Op::Unary(_) | Op::Binary(_) | Op::Select | Op::Cast | Op::Gelu, _) => true,
        (_, Kind::Leaf | Kind::View | Kind::Elementwise | Kind::Join | Kind::Move | Kind::Product) => false,
        (_, Kind::Reduction | Kind::Norm | Kind::Attention | Kind::Effect(_)) => false,
    };
    op && !node.types[0].dims.is_empty()
}

/// True if one of a node's results is an output of the entry.
pub fn is_shown(graph: &Graph, node: NodeIndex) -> bool {
    results(graph, node).any(|value| is_output(graph, value))
}

/// The results of a node.
fn results(graph: &Graph, node: NodeIndex) -> impl Iterator<Item = Value> + use<> {
    (0..graph.nodes[node].types.len()).map(move |port| Value { node, port: port as u8 })
}

/// What reads a node's results: the result, the reader, its input.
fn users(graph: &Graph, node: NodeIndex) -> impl Iterator<Item = (Value, NodeIndex, u16)> + use<'_> {
    results(graph, node).flat_map(|value| graph.users(value).into_iter().map(move |(user, place)| (value, user, place)))
}

/// The position of the last node that reads a node's results, through views too.
pub fn last_read(graph: &Graph, positions: &HashMap<NodeIndex, usize>, node: NodeIndex) -> usize {
    if is_shown(graph, node) {
        return usize::MAX;
    }
    let read = |user: NodeIndex| {
        let position = *positions.get(&user)?;
        let view = graph.nodes[user].op.kind() == Kind::View;
        Some(if view { last_read(graph, positions, user).max(position) } else { position })
    };
    users(graph, node).filter_map(|(_, user, _)| read(user)).max().unwrap_or(0)
}

struct Late<'a> {
    /// Nodes that are computed again whatever they cost.
    again: &'a BTreeSet<NodeIndex>,
    /// When each node's results are last read, as far as is settled.
    lives: HashMap<NodeIndex, usize>,
    /// The last copy of a node, and the position of its first reader.
    copies: HashMap<NodeIndex, (NodeIndex, usize)>,
    /// What each copy is a copy of.
    originals: HashMap<NodeIndex, NodeIndex>,
}

impl Late<'_> {
    fn may_copy(&self, graph: &Graph, node: NodeIndex) -> bool {
        cheap(graph, node) || self.again.contains(self.originals.get(&node).unwrap_or(&node))
    }

    /// True if nothing is lost by copying a node once more.
    fn by_the_way(&self, graph: &Graph, node: NodeIndex) -> bool {
        self.may_copy(graph, node) || graph.nodes[node].op.kind() == Kind::View
    }

    /// True if the operands of a node, or what they are computed from, are there at a position.
    fn possible(&self, graph: &Graph, node: NodeIndex, at: usize) -> bool {
        let (mut open, mut seen) = (vec![node], BTreeSet::from([node]));
        while let Some(node) = open.pop() {
            for operand in graph.inputs(node).into_iter().filter(|v| !self.there(graph, *v, at)) {
                if !self.by_the_way(graph, operand.node) {
                    return false;
                }
                if seen.insert(operand.node) {
                    open.push(operand.node);
                }
            }
        }
        true
    }

    /// True if a value lives at a position, or nearly.
    fn there(&self, graph: &Graph, value: Value, at: usize) -> bool {
        match graph.op(value).kind() {
            Kind::Leaf => true,
            Kind::View => graph.inputs(value.node).iter().all(|v| self.there(graph, *v, at)),
            Kind::Elementwise | Kind::Join | Kind::Move | Kind::Product => {
                self.lives[&value.node].saturating_add(SLACK) >= at
            }
            Kind::Reduction | Kind::Norm | Kind::Attention | Kind::Effect(_) => {
                self.lives[&value.node].saturating_add(SLACK) >= at
            }
        }
    }

    /// A copy of a node for readers from a position on, its operands copied too where they are not there. What is dear is
    /// copied once for all its readers.
    fn copy(&mut self, graph: &mut Graph, node: NodeIndex, at: usize) -> NodeIndex {
        if let Some((copy, first)) = self.copies.get_mut(&node)
            && (self.again.contains(&node) || (*first <= at + NEAR && at <= *first + NEAR))
        {
            *first = at.min(*first);
            return *copy;
        }
        let operand = |late: &mut Self, graph: &mut Graph, v: Value| {
            if late.there(graph, v, at) { v } else { Value { node: late.copy(graph, v.node, at), port: v.port } }
        };
        let inputs: Vec<Value> = graph.inputs(node).into_iter().map(|v| operand(self, graph, v)).collect();
        let original = graph.nodes[node].clone();
        let copy = graph.add(original.op, &inputs, original.types, original.span, &original.place).node;
        self.copies.insert(node, (copy, at));
        self.lives.insert(copy, at);
        self.originals.insert(copy, node);
        copy
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ir::graph::{Dim, InputId, Outer, Type};
    use crate::ir::op::{BinaryOp, DType, UnaryOp};

    struct Small(Graph);

    impl Small {
        fn add(&mut self, op: Op, inputs: &[Value]) -> Value {
            let place: Arc<str> = "".into();
            let ty = Type::new(DType::F32, Outer::Clips, vec![Dim::fixed(8, "a")]);
            self.0.add(op, inputs, vec![ty], None, &place)
        }
    }

    /// How many nodes are copied: h = `first`(x), used at once and, after some forty products, together with what `late`
    /// makes of x.
    fn copies(first: Op, late: impl Fn(&mut Small, Value) -> Value) -> usize {
        let mut g = Small(Graph::default());
        let x = g.add(Op::Input(InputId(0)), &[]);
        let x = g.add(Op::Softmax, &[x]);
        let h = g.add(first, &[x]);
        let mut y = h;
        for _ in 0..2 * NEAR {
            y = g.add(Op::Softmax, &[y]);
        }
        let both = g.add(Op::Binary(BinaryOp::Add), &[y, h]);
        let more = late(&mut g, x);
        let end = g.add(Op::Binary(BinaryOp::Mul), &[both, more]);
        g.0.outputs.push(("end".into(), end));
        let order = g.0.order();
        let copied = recompute(&mut g.0, &order, &BTreeSet::new());
        let users = g.0.users(h).len();
        assert_eq!(users, if copied == 0 { 2 } else { 1 }, "the late reader has the copy");
        copied
    }

    #[test]
    fn a_cheap_value_is_computed_again_if_its_operand_lives_anyway() {
        assert_eq!(copies(Op::Unary(UnaryOp::Tanh), |_, x| x), 1);
        assert_eq!(copies(Op::Gelu, |_, x| x), 1);
    }

    #[test]
    fn an_output_of_the_entry_lives_to_the_end() {
        let shown = |g: &mut Small, x: Value| {
            g.0.outputs.push(("x".into(), x));
            g.add(Op::Input(InputId(1)), &[])
        };
        assert_eq!(copies(Op::Gelu, shown), 1);
    }

    #[test]
    fn what_is_dear_or_would_keep_something_else_alive_is_kept() {
        assert_eq!(copies(Op::Softmax, |_, x| x), 0);
        let other = |g: &mut Small, _: Value| g.add(Op::Input(InputId(1)), &[]);
        assert_eq!(copies(Op::Gelu, other), 0);
    }
}
