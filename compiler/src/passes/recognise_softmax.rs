//! Softmax over one axis as one op.
//!
//! Accepted, with e = exp(s), over any one axis a, the quotient written as in [`quotient`](super::rewrite::quotient):
//! - e / sum\[a\](e) with s = x - max\[a\](x);
//! - the same with s = x - stop(max\[a\](x));
//! - the same with any other s, which is then taken for x.
//!
//! The op works along the last dim, so x is brought there and back by permutations. Not accepted: more than one axis,
//! e used elsewhere is no hindrance. The op subtracts the maximum whether or not it was written: results agree within the
//! rounding of exp, and are finite where the written form overflows.

use crate::ir::graph::{Graph, Tables, Value};
use crate::ir::op::{BinaryOp, Op, ReduceOp, UnaryOp};

use super::rewrite::{arranged, at, binary, quotient, reduced, spread_after, unary};

/// Replaces softmaxes that are spelt out; returns how many.
pub fn recognise_softmax(tables: &Tables, graph: &mut Graph) -> usize {
    let mut count = 0;
    for node in graph.order() {
        let value: Value = node.into();
        let Some((x, axis)) = matched(graph, value) else { continue };
        let rank = graph.ty(x).dims.len();
        // Dim `axis` moves behind the others; `back` undoes that.
        let order: Vec<usize> = (0..rank).filter(|j| *j != axis).chain([axis]).collect();
        let back: Vec<usize> = (0..rank).map(|j| order.iter().position(|o| *o == j).unwrap_or(j)).collect();
        let mut b = at(tables, graph, value);
        let x = b.permute(x, &order);
        let y = b.op(Op::Softmax, &[x]);
        let y = b.permute(y, &back);
        graph.replace(value, y);
        count += 1;
    }
    count
}

/// What a value is the softmax of, and over which axis.
fn matched(graph: &Graph, value: Value) -> Option<(Value, usize)> {
    let (e, sum, from) = quotient(graph, value)?;
    let (e2, axes) = reduced(graph, sum, ReduceOp::Sum)?;
    let rank = graph.ty(e).dims.len();
    let [axis] = axes[..] else { return None };
    if e != e2 || from != spread_after(rank, &axes) {
        return None;
    }
    let s = unary(graph, e, UnaryOp::Exp)?;
    Some((without_maximum(graph, s, axis).unwrap_or(s), axis))
}

/// x, if a value is x - max[axis](x).
fn without_maximum(graph: &Graph, s: Value, axis: usize) -> Option<Value> {
    let (x, largest) = binary(graph, s, BinaryOp::Sub)?;
    let (mut largest, from) = arranged(graph, largest);
    if *graph.op(largest) == Op::Stop {
        largest = graph.inputs(largest.node)[0];
    }
    let (x2, axes) = reduced(graph, largest, ReduceOp::Max)?;
    (x == x2 && axes == [axis] && from == spread_after(graph.ty(x).dims.len(), &axes)).then_some(x)
}
