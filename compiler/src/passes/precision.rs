//! Element types of a run in bf16. An f32 graph, gradients included, becomes a graph of f32 and bf16:
//!
//! | nodes | operands | result |
//! |---|---|---|
//! | products: `linear`, `einsum`, `attention` and its backward | bf16 | bf16, summed in f32 |
//! | the same where the result only goes into gradients of weights | bf16 | f32 |
//! | reductions, folds, norms, softmax, and their backward | as they are | f32 |
//! | elementwise, joins | bf16 if every activation is, else f32 | the same |
//! | views, gathers, scatters | as they are | the same |
//! | update rules, outputs | f32 | f32 |
//!
//! Weights, buffers, numbers and what is computed from these alone are f32 and take the other operand's type where they
//! meet an activation. Types other than f32 are left alone, so masks and the update are not touched. It runs last, on the
//! graph with its gradients, so that a weight's gradient is never rounded to bf16.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::Direction;
use petgraph::stable_graph::NodeIndex;

use crate::ir::graph::{Graph, Tables, Value};
use crate::ir::kind::Kind;
use crate::ir::op::{BinaryOp, DType, Op};

use super::rewrite::{at, rewire};

/// What a node asks of its floating-point operands and gives as its result.
enum Rule {
    /// Operands bf16, result bf16 or, for weight gradients, f32.
    Product,
    /// Operands as they are, result f32.
    Wide,
    /// All of the type that the activations among them share.
    Alike,
    /// The type of the first operand.
    View,
    /// Operands f32, result f32.
    Update,
    /// Not computed from operands.
    Leaf,
}

/// Chooses element types and inserts casts; returns how many nodes and casts changed.
pub fn precision(tables: &Tables, graph: &mut Graph) -> usize {
    let weights = from_weights(graph);
    let gradients = only_gradients(graph);
    let mut casts: BTreeMap<(Value, DType), Value> = BTreeMap::new();
    let mut count = 0;
    for node in graph.order() {
        let inputs = graph.inputs(node);
        let (operands, result) = match rule(&graph.nodes[node].op) {
            Rule::Leaf => continue,
            Rule::Product if weights.contains(&node) => (Some(DType::F32), DType::F32),
            Rule::Product => (Some(DType::Bf16), if gradients.contains(&node) { DType::F32 } else { DType::Bf16 }),
            Rule::Wide => (None, DType::F32),
            Rule::Alike => {
                let acts: Vec<&Value> =
                    inputs.iter().filter(|v| is_small(graph, **v) && !weights.contains(&v.node)).collect();
                let narrow = !acts.is_empty() && acts.iter().all(|v| graph.ty(**v).dtype == DType::Bf16);
                let dtype = if narrow { DType::Bf16 } else { DType::F32 };
                (Some(dtype), dtype)
            }
            Rule::View => (None, inputs.first().map_or(DType::F32, |v| graph.ty(*v).dtype)),
            Rule::Update => (Some(DType::F32), DType::F32),
        };
        if let Some(dtype) = operands {
            for (place, v) in inputs.iter().enumerate() {
                if is_small(graph, *v) && graph.ty(*v).dtype != dtype {
                    let cast = casts.get(&(*v, dtype)).copied();
                    let cast = cast.unwrap_or_else(|| at(tables, graph, *v).cast(*v, dtype));
                    casts.insert((*v, dtype), cast);
                    rewire(graph, node, place, cast);
                    count += 1;
                }
            }
        }
        let n_ports = graph.nodes[node].types.len();
        let norm_grad = matches!(graph.nodes[node].op, Op::LayerNormGrad { .. });
        for (port, ty) in graph.nodes[node].types.iter_mut().enumerate() {
            let own = norm_grad && n_ports == 3 && port > 0; // dw and db are as the weight
            if ty.dtype == DType::F32 && result == DType::Bf16 && !own {
                ty.dtype = result;
                count += 1;
            }
        }
    }
    for i in 0..graph.outputs.len() {
        let v = graph.outputs[i].1;
        if graph.ty(v).dtype == DType::Bf16 {
            graph.outputs[i].1 = at(tables, graph, v).cast(v, DType::F32);
            count += 1;
        }
    }
    count
}

fn is_small(graph: &Graph, value: Value) -> bool {
    matches!(graph.ty(value).dtype, DType::F32 | DType::Bf16)
}

/// Nodes that are computed from weights, buffers and numbers alone.
fn from_weights(graph: &Graph) -> BTreeSet<NodeIndex> {
    let mut found = BTreeSet::new();
    for node in graph.order() {
        let op = &graph.nodes[node].op;
        let is_leaf = matches!(rule(op), Rule::Leaf);
        let mut inputs = graph.inputs(node).into_iter().filter(|v| graph.ty(*v).dtype != DType::I32);
        if is_leaf && !matches!(op, Op::Input(_) | Op::Cast) || !is_leaf && inputs.all(|v| found.contains(&v.node)) {
            found.insert(node);
        }
    }
    found
}

/// Nodes whose results go into gradients of weights and nowhere else.
fn only_gradients(graph: &Graph) -> BTreeSet<NodeIndex> {
    let mut found = BTreeSet::new();
    let mut order = graph.order();
    order.reverse();
    for node in order {
        let op = &graph.nodes[node].op;
        if matches!(op, Op::Accumulate(_)) {
            found.insert(node);
            continue;
        }
        let passes_on =
            |op: &Op| matches!(rule(op), Rule::View) || matches!(op, Op::Binary(BinaryOp::Add) | Op::Concat { .. });
        let mut users = graph.nodes.neighbors_directed(node, Direction::Outgoing).peekable();
        let is_output = graph.outputs.iter().any(|(_, v)| v.node == node);
        let goes_on = |n: NodeIndex| {
            let op = &graph.nodes[n].op;
            found.contains(&n)
                && (passes_on(op) || matches!(op, Op::Accumulate(_) | Op::Fold { .. } | Op::Reduce { .. }))
        };
        if users.peek().is_some() && users.all(goes_on) && !is_output {
            found.insert(node);
        }
    }
    found
}

fn rule(op: &Op) -> Rule {
    match (op, op.kind()) {
        // A cast says its type itself.
        (Op::Cast | Op::OneHot, _) | (_, Kind::Leaf) => Rule::Leaf,
        (_, Kind::Product | Kind::Attention) => Rule::Product,
        (_, Kind::Reduction | Kind::Norm) => Rule::Wide,
        (Op::Concat { .. }, _) | (_, Kind::Elementwise) => Rule::Alike,
        (_, Kind::View | Kind::Join | Kind::Move) => Rule::View,
        (_, Kind::Effect(_)) => Rule::Update,
    }
}
