//! Small identities, so that later passes see one spelling of what can be spelt in several ways.
//!
//! - numbers: functions of constants are computed; x * 1, x / 1, x + 0, x - 0, x ^ 1, - - x are x;
//! - views: an arrangement of an arrangement is one, so is a reshape of a reshape; views, casts, slices and joins that
//!   change nothing go away; a view of a number that fills a tensor is that number filling another tensor;
//! - repetition: a function of something repeated is computed before it is repeated.
//!
//! Each rule looks at one node and gives the value that stands for it. One walk in order of use applies them until a node
//! has none left; the pass as a whole is repeated by the list until it changes nothing. Results differ from the unsimplified
//! ones by the rounding of constants only, which are computed in f64.

use crate::ir::extent::{Total, fits};
use crate::ir::graph::{Graph, Tables, Type, Value};
use crate::ir::kind::Kind;
use crate::ir::op::{BinaryOp, DType, Op, UnaryOp};

use super::rewrite::{arranged, at, is_identity, unary, uniform};

/// Applies the identities until none fits; returns how many were applied.
pub fn simplify(tables: &Tables, graph: &mut Graph) -> usize {
    let mut count = 0;
    loop {
        let before = count;
        for node in graph.order() {
            if graph.nodes[node].types.len() != 1 {
                continue;
            }
            let mut value: Value = node.into();
            while let Some(new) = step(tables, graph, value) {
                graph.replace(value, new);
                value = new;
                count += 1;
            }
        }
        if count == before {
            return count;
        }
        super::dead::dead(tables, graph);
    }
}

/// What a value can be replaced with, if any rule fits.
fn step(tables: &Tables, graph: &mut Graph, value: Value) -> Option<Value> {
    if graph.users(value).is_empty() && !super::rewrite::is_output(graph, value) {
        return None;
    }
    let inputs = graph.inputs(value.node);
    let ty = graph.ty(value).clone();
    match (graph.op(value).clone(), graph.op(value).kind()) {
        (Op::Unary(op), _) => {
            if op == UnaryOp::Neg && unary(graph, inputs[0], op).is_some() {
                return unary(graph, inputs[0], op).filter(|x| *graph.ty(*x) == ty);
            }
            if let Some(y) = constant(graph, inputs[0]).and_then(|x| fold_unary(op, x)) {
                return Some(at(tables, graph, value).number(y, ty.dtype));
            }
            before_repeating(tables, graph, value, &inputs, &ty)
        }
        (Op::Binary(op), _) => {
            if let Some(x) = neutral(graph, op, inputs[0], inputs[1]).filter(|x| *graph.ty(*x) == ty) {
                return Some(x);
            }
            if let (Some(x), Some(y)) = (constant(graph, inputs[0]), constant(graph, inputs[1]))
                && let Some(z) = fold_binary(op, x, y)
            {
                return Some(at(tables, graph, value).number(z, ty.dtype));
            }
            before_repeating(tables, graph, value, &inputs, &ty)
        }
        (Op::Cast, _) => {
            if graph.ty(inputs[0]).dtype == ty.dtype {
                return Some(inputs[0]);
            }
            if let Some(x) = narrow_before(graph, inputs[0], ty.dtype) {
                return Some(x);
            }
            if let Some(c) = constant(graph, inputs[0])
                && is_float(ty.dtype)
            {
                return Some(at(tables, graph, value).number(c, ty.dtype));
            }
            before_repeating(tables, graph, value, &inputs, &ty)
        }
        (Op::Stop, _) => {
            if matches!(graph.op(inputs[0]), Op::Stop) || uniform(graph, inputs[0]).is_some() {
                return Some(inputs[0]);
            }
            before_repeating(tables, graph, value, &inputs, &ty)
        }
        (Op::Arrange { from }, _) => {
            let x = graph.ty(inputs[0]);
            if is_identity(&from, x.dims.len()) && x.outer == ty.outer {
                return Some(inputs[0]);
            }
            if !matches!(graph.op(inputs[0]), Op::Arrange { .. }) {
                return None;
            }
            let (source, inner) = arranged(graph, inputs[0]);
            let from = from.iter().map(|f| f.and_then(|k| inner[k])).collect();
            Some(at(tables, graph, value).arrange(source, from, ty.outer, ty.dims))
        }
        (Op::Reshape, _) => {
            if graph.ty(inputs[0]).dims == ty.dims {
                return Some(inputs[0]);
            }
            if matches!(graph.op(inputs[0]), Op::Reshape) {
                let source = graph.inputs(inputs[0].node)[0];
                return Some(at(tables, graph, value).reshape(source, ty.dims));
            }
            refill(tables, graph, value, inputs[0], &ty)
        }
        (Op::Slice { axis, start }, _) => {
            if graph.ty(inputs[0]).dims == ty.dims && Total::of(tables, &start) == Total::default() {
                return Some(inputs[0]);
            }
            if let Op::Slice { axis: inner_axis, start: inner } = graph.op(inputs[0]).clone()
                && inner_axis == axis
            {
                let source = graph.inputs(inputs[0].node)[0];
                let start = inner.into_iter().chain(start).collect();
                return Some(at(tables, graph, value).slice(source, axis, start, ty.dims[axis].clone()));
            }
            part_of_join(tables, graph, value, inputs[0], axis, &start)
                .or_else(|| refill(tables, graph, value, inputs[0], &ty))
        }
        (Op::Pad { .. }, _) => (graph.ty(inputs[0]).dims == ty.dims).then_some(inputs[0]),
        (Op::Concat { .. }, _) => (inputs.len() == 1).then(|| inputs[0]),
        (Op::Gather { .. }, _) => refill(tables, graph, value, inputs[0], &ty),
        (Op::Select, _) => match uniform(graph, inputs[0]) {
            Some(c) => Some(inputs[if c != 0.0 { 1 } else { 2 }]).filter(|x| *graph.ty(*x) == ty),
            None => None,
        },
        (_, Kind::Leaf | Kind::View | Kind::Elementwise | Kind::Join | Kind::Move) => None,
        (_, Kind::Product | Kind::Reduction | Kind::Norm | Kind::Attention | Kind::Effect(_)) => None,
    }
}

/// The part of a join that a slice takes, if the slice takes one part whole.
fn part_of_join(
    tables: &Tables,
    graph: &Graph,
    value: Value,
    x: Value,
    axis: usize,
    start: &[crate::ir::graph::Extent],
) -> Option<Value> {
    if *graph.op(x) != (Op::Concat { axis }) {
        return None;
    }
    let start = Total::of(tables, start);
    let length = graph.ty(value).dims[axis].extent;
    let mut before = vec![];
    for part in graph.inputs(x.node) {
        let extent = graph.ty(part).dims[axis].extent;
        if extent == length && Total::of(tables, &before) == start {
            return Some(part);
        }
        before.push(extent);
    }
    None
}

/// A view of a number that fills a tensor: the number, filling the view.
fn refill(tables: &Tables, graph: &mut Graph, value: Value, x: Value, ty: &Type) -> Option<Value> {
    let (source, _) = arranged(graph, x);
    let is_number = graph.ty(source).dims.is_empty() && matches!(graph.op(x), Op::Arrange { .. });
    if !is_number || !fits(graph.ty(source).outer, ty.outer) {
        return None;
    }
    // The number itself may differ from block to block; a gather would then still take its own block's number.
    Some(at(tables, graph, value).spread(source, ty))
}

/// f(repeat(x), repeat(y)) as repeat(f(x, y)), where both are repeated alike or all but one are a repeated number.
fn before_repeating(tables: &Tables, graph: &mut Graph, value: Value, inputs: &[Value], ty: &Type) -> Option<Value> {
    let views: Vec<_> =
        inputs.iter().map(|x| (arranged(graph, *x), matches!(graph.op(*x), Op::Arrange { .. }))).collect();
    if views.iter().any(|v| !v.1) {
        return None;
    }
    let main = views.iter().map(|v| &v.0).max_by_key(|(x, _)| (graph.ty(*x).dims.len(), graph.ty(*x).outer))?.clone();
    let (source, from) = main;
    let small = graph.ty(source).clone();
    if !from.contains(&None) && small.outer == ty.outer {
        return None; // a permutation repeats nothing
    }
    let alike = |(x, f): &(Value, Vec<Option<usize>>)| {
        let t = graph.ty(*x);
        (t.outer == small.outer && *f == from) || (t.dims.is_empty() && fits(t.outer, small.outer))
    };
    if !views.iter().all(|v| alike(&v.0)) {
        return None;
    }
    let op = graph.op(value).clone();
    let mut b = at(tables, graph, value);
    // A number of the step is repeated for the clips even if its dims are repeated alike.
    let operands: Vec<Value> = views
        .iter()
        .map(|((x, f), _)| if *f == from && b.ty(*x).outer == small.outer { *x } else { b.spread(*x, &small) })
        .collect();
    let hint = Type { dtype: ty.dtype, ..small };
    let result = b.op_as(op, &operands, &hint);
    Some(b.arrange(result, from, ty.outer, ty.dims.clone()))
}

/// x, if a value is x made wider: going back to x's own type changes nothing.
fn narrow_before(graph: &Graph, value: Value, dtype: DType) -> Option<Value> {
    if *graph.op(value) != Op::Cast {
        return None;
    }
    let x = graph.inputs(value.node)[0];
    let wide = graph.ty(value).dtype;
    let widened = match graph.ty(x).dtype {
        DType::Bf16 => matches!(wide, DType::F32 | DType::F64),
        DType::F32 | DType::I32 | DType::Bool => wide == DType::F64,
        DType::F64 => false,
    };
    (widened && graph.ty(x).dtype == dtype).then_some(x)
}

fn is_float(dtype: DType) -> bool {
    match dtype {
        DType::F64 | DType::F32 | DType::Bf16 => true,
        DType::I32 | DType::Bool => false,
    }
}

/// The number of a constant node of a floating type.
fn constant(graph: &Graph, value: Value) -> Option<f64> {
    let Op::Constant(c) = graph.op(value) else { return None };
    is_float(graph.ty(value).dtype).then_some(*c)
}

/// The operand that a binary node is equal to.
fn neutral(graph: &Graph, op: BinaryOp, x: Value, y: Value) -> Option<Value> {
    let is = |v: Value, c: f64| uniform(graph, v) == Some(c);
    match op {
        BinaryOp::Add if is(y, 0.0) => Some(x),
        BinaryOp::Add if is(x, 0.0) => Some(y),
        BinaryOp::Mul if is(y, 1.0) => Some(x),
        BinaryOp::Mul if is(x, 1.0) => Some(y),
        BinaryOp::Sub if is(y, 0.0) => Some(x),
        BinaryOp::Div | BinaryOp::Pow if is(y, 1.0) => Some(x),
        BinaryOp::Add
        | BinaryOp::Mul
        | BinaryOp::Sub
        | BinaryOp::Div
        | BinaryOp::Pow
        | BinaryOp::Rem
        | BinaryOp::Min
        | BinaryOp::Max
        | BinaryOp::Eq
        | BinaryOp::Ne
        | BinaryOp::Lt
        | BinaryOp::Le
        | BinaryOp::Gt
        | BinaryOp::Ge
        | BinaryOp::And
        | BinaryOp::Or => None,
    }
}

fn fold_unary(op: UnaryOp, x: f64) -> Option<f64> {
    Some(match op {
        UnaryOp::Neg => -x,
        UnaryOp::Exp => libm::exp(x),
        UnaryOp::Log => libm::log(x),
        UnaryOp::Sqrt => libm::sqrt(x),
        UnaryOp::Abs => x.abs(),
        UnaryOp::Sin => libm::sin(x),
        UnaryOp::Cos => libm::cos(x),
        UnaryOp::Tanh => libm::tanh(x),
        UnaryOp::Erf => libm::erf(x),
        UnaryOp::Floor => x.floor(),
        UnaryOp::Ceil => x.ceil(),
        UnaryOp::Round => x.round_ties_even(),
        UnaryOp::Sign | UnaryOp::Not => return None,
    })
}

/// Arithmetic of two numbers; comparisons give Bool and are left to the interpreter.
fn fold_binary(op: BinaryOp, x: f64, y: f64) -> Option<f64> {
    Some(match op {
        BinaryOp::Add => x + y,
        BinaryOp::Sub => x - y,
        BinaryOp::Mul => x * y,
        BinaryOp::Div => x / y,
        BinaryOp::Pow => libm::pow(x, y),
        BinaryOp::Min => x.min(y),
        BinaryOp::Max => x.max(y),
        BinaryOp::Rem
        | BinaryOp::Eq
        | BinaryOp::Ne
        | BinaryOp::Lt
        | BinaryOp::Le
        | BinaryOp::Gt
        | BinaryOp::Ge
        | BinaryOp::And
        | BinaryOp::Or => return None,
    })
}
