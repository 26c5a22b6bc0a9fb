//! What passes share: looking through views, products, quotients and means.
//!
//! Matching never depends on the order of dims: a value is looked at through its [`Op::Arrange`], and dims are followed
//! by position. Nothing here removes a node: `dead` sweeps up what a pass no longer uses.

use petgraph::Direction;
use petgraph::stable_graph::NodeIndex;
use petgraph::visit::EdgeRef;

use crate::ir::build::Builder;
use crate::ir::graph::{Dim, Extent, Feed, Graph, Tables, Value};
use crate::ir::op::{BinaryOp, Op, ReduceOp, UnaryOp};

/// A builder whose nodes come from where `value` came from.
pub fn at<'a>(tables: &'a Tables, graph: &'a mut Graph, value: Value) -> Builder<'a> {
    let mut builder = Builder::new(graph, tables);
    builder.at(value);
    builder
}

/// Makes `value` the input `place` of a node.
pub fn rewire(graph: &mut Graph, node: NodeIndex, place: usize, value: Value) {
    let old = graph.nodes.edges_directed(node, Direction::Incoming).find(|e| e.weight().input as usize == place);
    let old = old.map(|e| e.id());
    graph.nodes.remove_edge(old.expect("compiler bug: no such input"));
    graph.nodes.add_edge(value.node, node, Feed { port: value.port, input: place as u16 });
}

/// True if `from` keeps every one of `rank` dims where it is.
pub fn is_identity(from: &[Option<usize>], rank: usize) -> bool {
    from.len() == rank && from.iter().enumerate().all(|(j, f)| *f == Some(j))
}

/// True if a value is used by one input alone and is no output of the entry.
pub fn used_once(graph: &Graph, value: Value) -> bool {
    sole_user(graph, value).is_some()
}

/// The only user of a value that is no output of the entry.
pub fn sole_user(graph: &Graph, value: Value) -> Option<NodeIndex> {
    match graph.users(value)[..] {
        [(user, _)] if !is_output(graph, value) => Some(user),
        _ => None,
    }
}

/// True if a value is an output of the entry.
pub fn is_output(graph: &Graph, value: Value) -> bool {
    graph.outputs.iter().any(|(_, v)| *v == value)
}

/// The operands of a binary node of this kind.
pub fn binary(graph: &Graph, value: Value, op: BinaryOp) -> Option<(Value, Value)> {
    if *graph.op(value) != Op::Binary(op) {
        return None;
    }
    let inputs = graph.inputs(value.node);
    Some((inputs[0], inputs[1]))
}

/// The operand of a unary node of this kind.
pub fn unary(graph: &Graph, value: Value, op: UnaryOp) -> Option<Value> {
    (*graph.op(value) == Op::Unary(op)).then(|| graph.inputs(value.node)[0])
}

/// What a value is an arrangement of, and where its dims come from: the value itself if it is none.
pub fn arranged(graph: &Graph, value: Value) -> (Value, Vec<Option<usize>>) {
    if let Op::Arrange { from } = graph.op(value) {
        return (graph.inputs(value.node)[0], from.clone());
    }
    (value, (0..graph.ty(value).dims.len()).map(Some).collect())
}

/// The number that every element of a value is, if it comes from a constant.
pub fn uniform(graph: &Graph, value: Value) -> Option<f64> {
    if let Op::Constant(c) = graph.op(value) {
        return Some(*c);
    }
    let is_view = matches!(graph.op(value), Op::Arrange { .. } | Op::Reshape);
    if is_view { uniform(graph, graph.inputs(value.node)[0]) } else { None }
}

/// True if x equals y up to the rounding of constants that were written in single precision.
pub fn close(x: f64, y: f64) -> bool {
    const ROUNDING: f64 = 1e-6; // some units of f32's last place
    (x - y).abs() <= ROUNDING * y.abs()
}

/// A product or quotient of one value and a number: the value and what it is multiplied by.
pub fn scaled(graph: &Graph, value: Value) -> Option<(Value, f64)> {
    if let Some((a, b)) = binary(graph, value, BinaryOp::Mul) {
        return uniform(graph, b).map(|c| (a, c)).or_else(|| uniform(graph, a).map(|c| (b, c)));
    }
    if let Some((a, b)) = binary(graph, value, BinaryOp::Div) {
        return uniform(graph, b).map(|c| (a, 1.0 / c));
    }
    None
}

/// Numerator and denominator of `a / b`, `a * (1 / b)` and `(1 / b) * a`, the last two also with a repeated `1 / b`.
/// The third item says how the denominator is spread over the quotient's dims.
pub fn quotient(graph: &Graph, value: Value) -> Option<(Value, Value, Vec<Option<usize>>)> {
    if let Some((a, b)) = binary(graph, value, BinaryOp::Div) {
        let (den, from) = arranged(graph, b);
        return Some((a, den, from));
    }
    let (a, b) = binary(graph, value, BinaryOp::Mul)?;
    for (num, inverse) in [(a, b), (b, a)] {
        let (inverse, from) = arranged(graph, inverse);
        if let Some((one, den)) = binary(graph, inverse, BinaryOp::Div)
            && uniform(graph, one) == Some(1.0)
        {
            return Some((num, den, from));
        }
    }
    None
}

/// What a value is the sum, mean, largest... of, and over which axes.
pub fn reduced(graph: &Graph, value: Value, kind: ReduceOp) -> Option<(Value, Vec<usize>)> {
    let Op::Reduce { op, axes } = graph.op(value) else { return None };
    (*op == kind).then(|| (graph.inputs(value.node)[0], axes.clone()))
}

/// What a value is the mean of, written as a mean or as a sum divided by the number of elements.
pub fn mean_of(graph: &Graph, value: Value) -> Option<(Value, Vec<usize>)> {
    if let Some(found) = reduced(graph, value, ReduceOp::Mean) {
        return Some(found);
    }
    let (sum, factor) = scaled(graph, value)?;
    let (x, axes) = reduced(graph, sum, ReduceOp::Sum)?;
    let count = axes.iter().try_fold(1usize, |n, &a| static_size(graph.ty(x).dims[a].extent).map(|m| n * m))?;
    close(factor * count as f64, 1.0).then_some((x, axes))
}

/// How dims that lost `axes` in a reduction spread over the dims before it.
pub fn spread_after(rank: usize, axes: &[usize]) -> Vec<Option<usize>> {
    let mut next = 0;
    (0..rank)
        .map(|j| {
            if axes.contains(&j) {
                return None;
            }
            next += 1;
            Some(next - 1)
        })
        .collect()
}

/// The size of a static extent.
pub fn static_size(extent: Extent) -> Option<usize> {
    match extent {
        Extent::Static(n) => Some(n),
        Extent::Counted(_) => None,
    }
}

/// The product of extents as one dim: exact if all are static, or all but one are 1.
pub fn merged(dims: &[Dim], name: &str) -> Option<Dim> {
    let mut size = 1;
    let mut counted = None;
    for dim in dims {
        match dim.extent {
            Extent::Static(n) => size *= n,
            Extent::Counted(_) if counted.is_some() => return None,
            Extent::Counted(c) => counted = Some(c),
        }
    }
    let name = if let [dim] = dims { &dim.name } else { name };
    match counted {
        None => Some(Dim::fixed(size, name)),
        Some(c) => (size == 1).then(|| Dim::new(Extent::Counted(c), name)),
    }
}

/// Extents multiplied, in a form that can be compared: the static product, and the counts in order.
pub fn product(dims: &[Dim]) -> (usize, Vec<u32>) {
    let mut product = (1, vec![]);
    for dim in dims {
        match dim.extent {
            Extent::Static(n) => product.0 *= n,
            Extent::Counted(c) => product.1.push(c.0),
        }
    }
    product.1.sort_unstable();
    product
}
