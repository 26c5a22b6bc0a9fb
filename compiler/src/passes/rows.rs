//! Rows that nobody reads are not computed.
//!
//! A slice, or a gather by one index, of a value that nothing else reads moves in front of the op that made the value,
//! if that op treats the positions of the axis one by one:
//!
//! - elementwise functions, `linear`, `layer_norm` (not their last dim), `softmax` (not its last dim), reductions and
//!   contractions that keep the axis, joins along another axis, gathers of something else;
//! - permutations, and reshapes that leave the axis whole; views move only if the op behind them is passed too;
//! - `attention`: its queries, not its keys; the keys' blocks are not repeated for it;
//! - `patches`: a gather of tokens becomes its index, so that only these tokens are cut, even if all are cut elsewhere;
//! - something repeated along the axis is repeated less often.
//!
//! What is restricted already is found rather than restricted again, so that a residual and the branch beside it share
//! their rows. A gather by segments from a value that has one block a clip computes a row once a segment instead of once
//! a clip. That pays for the context, which is the small part of the tokens, and for a list of one mask with one target;
//! for several targets, which overlap, it would not, and what is one for the step stays so. The results are the same
//! bits: no sum changes its order.

use petgraph::stable_graph::NodeIndex;

use crate::ir::build::Builder;
use crate::ir::graph::{Dim, Extent, Graph, Outer, Tables, Type, Value};
use crate::ir::kind::Kind;
use crate::ir::op::{Op, Which};

use super::rewrite::{at, product, sole_user, used_once};

/// A selection of positions of one axis.
#[derive(Clone)]
enum Rows {
    /// A part: where it starts, and its dim.
    Part(Vec<Extent>, Dim),
    /// Those of an index: it, its outer, its dims, which stand in place of the axis.
    Index(Value, Outer, Vec<Dim>),
}

/// What restricting a value along an axis comes down to.
enum Plan {
    /// Operand i, along its axis, for each entry; the others stay. The op is the new node's.
    Operands(Op, Vec<(usize, usize)>),
    /// `patches` with this index.
    Cut(Value),
}

/// Moves selections of rows towards what makes the rows; returns how many steps were made.
pub fn rows(tables: &Tables, graph: &mut Graph) -> usize {
    let mut todo: Vec<NodeIndex> = graph.order();
    let mut count = 0;
    while let Some(node) = todo.pop() {
        let Some((x, axis, rows)) = selection(graph, node) else { continue };
        if !allowed(tables, graph, x, &rows) {
            continue;
        }
        let Some(plan) = plan(graph, x, axis, &rows) else { continue };
        // To cut the tokens of an index is no more work than to gather them, whoever else needs them all.
        if !used_once(graph, x) && !matches!(plan, Plan::Cut(_)) {
            continue;
        }
        let new = carry_out(tables, graph, x, node, plan, &rows, &mut todo);
        graph.replace(node.into(), new);
        sweep(graph, node);
        count += 1;
    }
    count
}

/// The value, axis and rows of a node that selects rows.
fn selection(graph: &Graph, node: NodeIndex) -> Option<(Value, usize, Rows)> {
    let n = graph.nodes.node_weight(node)?;
    let inputs = graph.inputs(node);
    if let Op::Slice { axis, start } = &n.op {
        return Some((inputs[0], *axis, Rows::Part(start.clone(), n.types[0].dims[*axis].clone())));
    }
    if let Op::Gather { axis, shared: 0 } = n.op {
        let index = graph.ty(inputs[1]);
        let some = !index.dims.is_empty();
        return some.then(|| (inputs[0], axis, Rows::Index(inputs[1], index.outer, index.dims.clone())));
    }
    None
}

/// True if computing the rows where they are selected is no more work than computing all.
fn allowed(tables: &Tables, graph: &Graph, x: Value, rows: &Rows) -> bool {
    let Rows::Index(index, outer, dims) = rows else { return true };
    let have = graph.ty(x).outer;
    if *outer <= have || repeats(graph, x) {
        return true;
    }
    match (have, outer, graph.op(*index)) {
        (Outer::Clips, Outer::Segments(set), op) => {
            let is_context = matches!(op, Op::Index { which: Which::Context, .. });
            is_context || dims.len() == 1 && tables.sets[set.0 as usize].masks.len() == 1
        }
        (Outer::One | Outer::Clips | Outer::Segments(_), _, _) => false,
    }
}

/// True for a value that is a smaller one repeated.
fn repeats(graph: &Graph, x: Value) -> bool {
    matches!(graph.op(x), Op::Arrange { from } if from.contains(&None))
        && graph.ty(graph.inputs(x.node)[0]).dims.is_empty()
}

/// How `x[axis: rows]` is computed from restricted operands of x.
fn plan(graph: &Graph, x: Value, axis: usize, rows: &Rows) -> Option<Plan> {
    let inputs = graph.inputs(x.node);
    let rank = graph.ty(x).dims.len();
    let op = graph.op(x).clone();
    // By how many dims the axes behind `axis` move.
    let width = match rows {
        Rows::Part(..) => 1,
        Rows::Index(_, _, dims) => dims.len(),
    };
    let behind = |j: usize| if j > axis { j + width - 1 } else { j };
    // A view is passed only together with what it views.
    let view = |op: Op, k: usize| {
        let passes = sole_user(graph, inputs[0]) == Some(x.node) && plan(graph, inputs[0], k, rows).is_some();
        passes.then(|| Plan::Operands(op, vec![(0, k)]))
    };
    let first = |axis: usize| Some(Plan::Operands(op.clone(), vec![(0, axis)]));
    match (&op, op.kind()) {
        (Op::GeluGrad, _) => None, // there are no gradients yet where this pass runs
        (Op::Stop, _) | (_, Kind::Elementwise) => {
            Some(Plan::Operands(op.clone(), (0..inputs.len()).map(|i| (i, axis)).collect()))
        }
        (Op::Arrange { from }, _) => {
            let mut spread = from.clone();
            let Some(k) = from[axis] else {
                spread.splice(axis..=axis, vec![None; width]);
                return Some(Plan::Operands(Op::Arrange { from: spread }, vec![]));
            };
            spread.iter_mut().flatten().for_each(|f| *f += if *f > k { width - 1 } else { 0 });
            spread.splice(axis..=axis, (k..k + width).map(Some));
            let lifts = graph.ty(inputs[0]).outer != graph.ty(x).outer;
            let op = Op::Arrange { from: spread };
            if lifts || from.contains(&None) { Some(Plan::Operands(op, vec![(0, k)])) } else { view(op, k) }
        }
        (Op::Reshape, _) => view(op.clone(), whole_axis(graph.ty(inputs[0]), graph.ty(x), axis)?),
        (Op::Slice { axis: cut, start }, _) if *cut != axis => {
            view(Op::Slice { axis: behind(*cut), start: start.clone() }, axis)
        }
        (Op::Concat { axis: joined }, _) if *joined != axis => {
            let op = Op::Concat { axis: behind(*joined) };
            Some(Plan::Operands(op, (0..inputs.len()).map(|i| (i, axis)).collect()))
        }
        (Op::Gather { axis: place, shared: 0 }, _) => {
            let n = graph.ty(inputs[1]).dims.len();
            if (*place..*place + n).contains(&axis) {
                return Some(Plan::Operands(op.clone(), vec![(1, axis - place)]));
            }
            let k = if axis < *place { axis } else { axis + 1 - n };
            let place = if axis < *place { place + width - 1 } else { *place };
            Some(Plan::Operands(Op::Gather { axis: place, shared: 0 }, vec![(0, k)]))
        }
        (Op::Reduce { op, axes }, _) => {
            let kept: Vec<usize> = (0..rank + axes.len()).filter(|j| !axes.contains(j)).collect();
            let k = kept[axis];
            let axes = axes.iter().map(|j| if *j > k { j + width - 1 } else { *j }).collect();
            Some(Plan::Operands(Op::Reduce { op: *op, axes }, vec![(0, k)]))
        }
        (Op::Einsum { a, b, out }, _) if width == 1 => {
            let blocks = graph.ty(inputs[0]).outer.max(graph.ty(inputs[1]).outer);
            let at = |labels: &[u8]| labels.iter().position(|l| *l == out[axis]);
            let places = [a, b].into_iter().enumerate().filter_map(|(i, l)| at(l).map(|k| (i, k))).collect();
            (blocks == graph.ty(x).outer).then(|| Plan::Operands(op.clone(), places))
        }
        (Op::Linear | Op::LayerNorm { .. } | Op::Softmax, _) => (axis + 1 < rank).then(|| first(axis)).flatten(),
        (Op::Attention { .. }, _) => {
            let same_blocks = match rows {
                Rows::Part(..) => true,
                Rows::Index(_, outer, _) => *outer <= graph.ty(x).outer,
            };
            (axis == 0 && width == 1 && same_blocks).then(|| first(0)).flatten()
        }
        (Op::Patches { .. }, _) if axis == 0 && width == 1 => {
            if inputs.len() == 2 {
                return Some(Plan::Operands(op.clone(), vec![(1, 0)]));
            }
            match rows {
                Rows::Part(..) => None,
                Rows::Index(index, _, _) => Some(Plan::Cut(*index)),
            }
        }
        (_, Kind::Leaf | Kind::View | Kind::Join | Kind::Move | Kind::Product | Kind::Reduction) => None,
        (_, Kind::Norm | Kind::Attention | Kind::Effect(_)) => None,
    }
}

/// The dim of `from` that is dim `axis` of `to`, the reshape leaving it whole.
fn whole_axis(from: &Type, to: &Type, axis: usize) -> Option<usize> {
    let before = product(&to.dims[..axis]);
    (0..from.dims.len()).find(|k| from.dims[*k] == to.dims[axis] && product(&from.dims[..*k]) == before)
}

/// Builds the plan's nodes; new selections go onto `todo`.
fn carry_out(
    tables: &Tables,
    graph: &mut Graph,
    x: Value,
    selects: NodeIndex,
    plan: Plan,
    rows: &Rows,
    todo: &mut Vec<NodeIndex>,
) -> Value {
    let ty = graph.nodes[selects].types[0].clone();
    let mut inputs = graph.inputs(x.node);
    let op = graph.op(x).clone();
    let mut b = at(tables, graph, x);
    let op = match plan {
        Plan::Cut(index) => {
            inputs.push(index);
            op
        }
        Plan::Operands(op, restricted) => {
            for (i, axis) in restricted {
                inputs[i] = select(&mut b, inputs[i], axis, rows);
                todo.push(inputs[i].node);
            }
            op
        }
    };
    b.op_as(op, &inputs, &ty)
}

/// `x[axis: rows]`, the node that is there already if there is one.
fn select(b: &mut Builder, x: Value, axis: usize, rows: &Rows) -> Value {
    let (op, index) = match rows {
        Rows::Part(start, _) => (Op::Slice { axis, start: start.clone() }, None),
        Rows::Index(index, _, _) => (Op::Gather { axis, shared: 0 }, Some(*index)),
    };
    let known = b.graph.users(x).into_iter().find(|(user, place)| {
        let same_part = match rows {
            Rows::Part(_, dim) => b.graph.nodes[*user].types[0].dims.get(axis) == Some(dim),
            Rows::Index(index, _, _) => b.graph.inputs(*user).get(1) == Some(index),
        };
        *place == 0 && b.graph.nodes[*user].op == op && same_part
    });
    match (known, rows) {
        (Some((user, _)), _) => user.into(),
        (None, Rows::Part(start, dim)) => b.slice(x, axis, start.clone(), dim.clone()),
        (None, Rows::Index(..)) => {
            let inputs: Vec<Value> = [x].into_iter().chain(index).collect();
            b.op(op, &inputs)
        }
    }
}

/// Removes a node that nobody reads, and what only it read.
fn sweep(graph: &mut Graph, node: NodeIndex) {
    let mut todo = vec![node];
    while let Some(node) = todo.pop() {
        let read = graph.nodes.neighbors_directed(node, petgraph::Direction::Outgoing).next().is_some();
        let kept = !graph.nodes.contains_node(node) || graph.nodes[node].op.is_effect();
        if read || kept || graph.outputs.iter().any(|(_, v)| v.node == node) {
            continue;
        }
        let inputs = graph.inputs(node);
        graph.nodes.remove_node(node);
        todo.extend(inputs.into_iter().map(|v| v.node));
    }
}
