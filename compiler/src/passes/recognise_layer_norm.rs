//! Layer norm over one or several axes as one op, with its weight and bias if they are there.
//!
//! Accepted, with d = x - mean\[a..\](x):
//! - d / sqrt(mean\[a..\](d * d) + eps), also d * (1 / sqrt(...)), eps read from the graph, in either order of the sum;
//! - the power 0.5 for the root, and d * (...) ^ -0.5;
//! - d ^ 2 and mean\[a..\]((x - mean\[a..\](x)) ^ 2) for the variance: equal subexpressions are one node by then;
//! - sum(...) / n for a mean;
//! - then * w + b, in either order, where w and b are one for the step and have exactly the axes a.. (all the axes of one,
//!   in any order), and nothing but these two reads the values in between.
//!
//! Several axes are brought together and merged; all must be static then. With a weight but no bias, or the other way
//! round, the norm is recognised and the rest stays. Not accepted: E\[x^2\] - E\[x\]^2, which rounds differently, and
//! an eps outside the root.

use crate::ir::build::Builder;
use crate::ir::graph::{Dim, Graph, Outer, Tables, Value};
use crate::ir::op::{BinaryOp, Op, UnaryOp};

use super::rewrite::{arranged, at, binary, mean_of, merged, quotient, sole_user, spread_after, unary, uniform};

/// A layer norm found in the graph.
struct Norm {
    x: Value,
    /// Normalised dims of x, ascending.
    axes: Vec<usize>,
    eps: f64,
    /// Weight and bias: the tensors, and for each of their dims the dim of x.
    affine: Option<[(Value, Vec<usize>); 2]>,
    /// What the norm stands for.
    root: Value,
}

/// Replaces layer norms that are spelt out; returns how many.
pub fn recognise_layer_norm(tables: &Tables, graph: &mut Graph) -> usize {
    let mut count = 0;
    for node in graph.order() {
        let Some(norm) = matched(graph, node.into()) else { continue };
        let dims: Vec<Dim> = norm.axes.iter().map(|a| graph.ty(norm.x).dims[*a].clone()).collect();
        let Some(width) = merged(&dims, "norm") else { continue };
        let root = norm.root;
        let mut b = at(tables, graph, root);
        let y = replacement(&mut b, norm, width);
        graph.replace(root, y);
        count += 1;
    }
    count
}

fn replacement(b: &mut Builder, norm: Norm, width: Dim) -> Value {
    let ty = b.ty(norm.x);
    let rest: Vec<usize> = (0..ty.dims.len()).filter(|j| !norm.axes.contains(j)).collect();
    let order: Vec<usize> = rest.iter().chain(&norm.axes).copied().collect();
    let back: Vec<usize> = (0..order.len()).map(|j| order.iter().position(|o| *o == j).unwrap_or(j)).collect();
    let x = b.permute(norm.x, &order);
    let apart = b.ty(x).dims;
    let together: Vec<Dim> = apart[..rest.len()].iter().cloned().chain([width.clone()]).collect();
    let mut inputs = vec![b.reshape(x, together)];
    for (w, places) in norm.affine.into_iter().flatten() {
        // Dim k of w is dim places[k] of x: put them in the order of `axes`, then merge.
        let order: Vec<usize> = norm.axes.iter().filter_map(|a| places.iter().position(|p| p == a)).collect();
        let w = b.permute(w, &order);
        inputs.push(b.reshape(w, vec![width.clone()]));
    }
    let y = b.op(Op::LayerNorm { eps: norm.eps }, &inputs);
    let y = b.reshape(y, apart);
    b.permute(y, &back)
}

fn matched(graph: &Graph, value: Value) -> Option<Norm> {
    let (d, inside, from) = over_root(graph, value)?;
    let (x, mean) = binary(graph, d, BinaryOp::Sub)?;
    let (mean, mean_from) = arranged(graph, mean);
    let (x2, axes) = mean_of(graph, mean)?;
    let spread = spread_after(graph.ty(x).dims.len(), &axes);
    if x != x2 || mean_from != spread || from != spread {
        return None;
    }
    let (p, q) = binary(graph, inside, BinaryOp::Add)?;
    let (variance, eps) = if let Some(eps) = uniform(graph, q) { (p, eps) } else { (q, uniform(graph, p)?) };
    let (square, square_axes) = mean_of(graph, variance)?;
    if square_axes != axes || squared(graph, square)? != d {
        return None;
    }
    let found = Norm { x, axes, eps, affine: None, root: value };
    Some(with_affine(graph, &found).unwrap_or(found))
}

/// d, s and how s spreads over d, if a value is d / sqrt(s).
fn over_root(graph: &Graph, value: Value) -> Option<(Value, Value, Vec<Option<usize>>)> {
    if let Some((d, root, from)) = quotient(graph, value) {
        return unary(graph, root, UnaryOp::Sqrt).or_else(|| power(graph, root, 0.5)).map(|s| (d, s, from));
    }
    let (p, q) = binary(graph, value, BinaryOp::Mul)?;
    [(p, q), (q, p)].into_iter().find_map(|(d, root)| {
        let (root, from) = arranged(graph, root);
        power(graph, root, -0.5).map(|s| (d, s, from))
    })
}

/// y, if a value is y to this power.
fn power(graph: &Graph, value: Value, exponent: f64) -> Option<Value> {
    let (y, p) = binary(graph, value, BinaryOp::Pow)?;
    (uniform(graph, p) == Some(exponent)).then_some(y)
}

/// y, if a value is y * y or y ^ 2.
fn squared(graph: &Graph, value: Value) -> Option<Value> {
    if let Some((y, z)) = binary(graph, value, BinaryOp::Mul) {
        return (y == z).then_some(y);
    }
    power(graph, value, 2.0)
}

/// The norm together with the weight and bias that follow it.
fn with_affine(graph: &Graph, norm: &Norm) -> Option<Norm> {
    let (w, product) = operand_after(graph, norm.root, BinaryOp::Mul, &norm.axes)?;
    let (b, sum) = operand_after(graph, product, BinaryOp::Add, &norm.axes)?;
    Some(Norm { x: norm.x, axes: norm.axes.clone(), eps: norm.eps, affine: Some([w, b]), root: sum })
}

/// The other operand of the only user of `value`, if that is `op` with something one for the step over exactly `axes`.
fn operand_after(graph: &Graph, value: Value, op: BinaryOp, axes: &[usize]) -> Option<((Value, Vec<usize>), Value)> {
    let user: Value = sole_user(graph, value)?.into();
    let (p, q) = binary(graph, user, op)?;
    let (w, from) = arranged(graph, if p == value { q } else { p });
    let ty = graph.ty(w);
    let over: Vec<usize> = (0..from.len()).filter(|j| from[*j].is_some()).collect();
    if ty.outer != Outer::One || over != axes || ty.dtype != graph.ty(value).dtype {
        return None;
    }
    let places = (0..ty.dims.len()).filter_map(|k| from.iter().position(|f| *f == Some(k))).collect();
    Some(((w, places), user))
}
