//! Names what looks like an idiom but runs as the small operations it was written in: for `explain`.

use crate::ir::graph::{Graph, Value};
use crate::ir::op::{Op, ReduceOp, UnaryOp};

use super::rewrite::{quotient, reduced, unary};

/// One line for each softmax and attention that no recogniser took, in order of computation.
pub fn unfused(graph: &Graph) -> Vec<String> {
    let mut lines = vec![];
    for node in graph.order() {
        let (value, place): (Value, _) = (node.into(), &graph.nodes[node].place);
        if *graph.op(value) == Op::Softmax && weighs_values(graph, value) {
            lines.push(format!(
                "the attention at `{place}` runs unfused: its scores are kept and multiplied as they are"
            ));
        }
        if let Some((e, sum, _)) = quotient(graph, value)
            && unary(graph, e, UnaryOp::Exp).is_some()
            && reduced(graph, sum, ReduceOp::Sum).is_some_and(|(of, _)| of == e)
        {
            lines.push(format!("the softmax at `{place}` runs unfused: it is not over one axis"));
        }
    }
    lines
}

/// True if a softmax, possibly permuted, is multiplied with something that has dims of its own.
fn weighs_values(graph: &Graph, value: Value) -> bool {
    graph.users(value).into_iter().any(|(user, _)| {
        let op = &graph.nodes[user].op;
        let is_view = matches!(op, Op::Arrange { .. } | Op::Stop);
        matches!(op, Op::Einsum { .. }) || is_view && weighs_values(graph, user.into())
    })
}
