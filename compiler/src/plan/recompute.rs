//! Values that are cheaper to compute again than to keep.
//!
//! What the backward pass reads of the forward one lives through most of a step. A norm, an activation or a cast of
//! something that lives as long anyway costs a pass over memory, and half of what a transformer keeps is made of such: so
//! the late readers of such a value get a copy of its node, which the schedule puts just before the first of them. Bits
//! do not change: the same operation on the same operands.

use std::collections::HashMap;

use crate::ir::graph::{Graph, Value};
use crate::ir::kind::Kind;
use crate::ir::op::Op;
use crate::passes::rewrite::{is_output, rewire};
use petgraph::stable_graph::NodeIndex;

/// A value is kept for readers within so many steps. By feel: a block of a transformer has about as many.
const NEAR: usize = 24;
/// An operand whose last reader is at most so many steps before a late reader lives long enough: its life grows by those.
const SLACK: usize = 16;

/// Gives late readers copies of cheap nodes; `order` is the schedule without them. Returns how many nodes were copied.
pub fn recompute(graph: &mut Graph, order: &[NodeIndex]) -> usize {
    let positions: HashMap<NodeIndex, usize> = order.iter().enumerate().map(|(p, n)| (*n, p)).collect();
    let lives: HashMap<NodeIndex, usize> = order.iter().map(|n| (*n, last_read(graph, &positions, *n))).collect();
    let mut late = Late { positions: &positions, lives: &lives, copies: HashMap::new() };
    for &node in order {
        let value = Value::from(node);
        if !cheap(graph, node) || is_output(graph, value) {
            continue;
        }
        let far = |user: &NodeIndex| positions.get(user).is_some_and(|p| *p > positions[&node] + NEAR);
        let users: Vec<(NodeIndex, u16)> = graph.users(value).into_iter().filter(|(user, _)| far(user)).collect();
        let Some(first) = users.iter().map(|(user, _)| positions[user]).min() else { continue };
        if late.possible(graph, node, first) {
            let copy = late.copy(graph, node, first);
            users.into_iter().for_each(|(user, place)| rewire(graph, user, place as usize, copy));
        }
    }
    late.copies.len()
}

/// Ops that cost about one pass over their operands and result.
fn cheap(graph: &Graph, node: NodeIndex) -> bool {
    let node = &graph.nodes[node];
    let op = match (&node.op, node.op.kind()) {
        (Op::LayerNorm { .. } | Op::Unary(_) | Op::Binary(_) | Op::Select | Op::Cast | Op::Gelu, _) => true,
        (_, Kind::Leaf | Kind::View | Kind::Elementwise | Kind::Join | Kind::Move | Kind::Product) => false,
        (_, Kind::Reduction | Kind::Norm | Kind::Attention | Kind::Effect(_)) => false,
    };
    op && !node.types[0].dims.is_empty()
}

/// The position of the last node that reads a node's results, through views too.
fn last_read(graph: &Graph, positions: &HashMap<NodeIndex, usize>, node: NodeIndex) -> usize {
    let read = |port: usize| {
        let value = Value { node, port: port as u8 };
        if is_output(graph, value) {
            return usize::MAX;
        }
        let users = graph.users(value).into_iter().filter_map(|(user, _)| {
            let position = *positions.get(&user)?;
            let view = graph.nodes[user].op.kind() == Kind::View;
            Some(if view { last_read(graph, positions, user).max(position) } else { position })
        });
        users.max().unwrap_or(0)
    };
    (0..graph.nodes[node].types.len()).map(read).max().unwrap_or(0)
}

struct Late<'a> {
    positions: &'a HashMap<NodeIndex, usize>,
    /// When each node's results are last read.
    lives: &'a HashMap<NodeIndex, usize>,
    /// The copy of a node, and the position of its first reader.
    copies: HashMap<NodeIndex, (Value, usize)>,
}

impl Late<'_> {
    /// True if the operands of a node, or what they are computed from, are there at a position.
    fn possible(&self, graph: &Graph, node: NodeIndex, at: usize) -> bool {
        graph
            .inputs(node)
            .iter()
            .all(|v| self.there(graph, *v, at) || (cheap(graph, v.node) && self.possible(graph, v.node, at)))
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

    /// A copy of a node for readers from a position on, its operands copied too where they are not there.
    fn copy(&mut self, graph: &mut Graph, node: NodeIndex, at: usize) -> Value {
        if let Some((copy, first)) = self.copies.get(&node)
            && *first <= at + NEAR
            && at <= *first + NEAR
        {
            return *copy;
        }
        let inputs: Vec<Value> = graph
            .inputs(node)
            .into_iter()
            .map(|v| if self.there(graph, v, at) { v } else { self.copy(graph, v.node, at) })
            .collect();
        debug_assert!(self.positions.contains_key(&node));
        let original = graph.nodes[node].clone();
        let copy = graph.add(original.op, &inputs, original.types, original.span, &original.place);
        self.copies.insert(node, (copy, at));
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
        let copied = recompute(&mut g.0, &order);
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
