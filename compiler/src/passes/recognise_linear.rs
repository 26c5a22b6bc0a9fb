//! Products with a weight, and their bias, as one op.
//!
//! Accepted: an `einsum` of x with w, in either order of the operands, where
//! - w is one for the step, and the result has the blocks of x;
//! - the labels that both have are exactly those that are summed, at least one, in any order;
//! - x may have more labels (rows) and so may w (features), all of them in the result, in any order;
//! - then possibly + b, in either order, where b is one for the step, has exactly the feature dims, and nothing else reads
//!   the product.
//!
//! If both operands are one for the step, the one that comes from a stored tensor through views is w, else the second.
//! The summed labels are merged into one dim, and so are the features; w is permuted if it is not stored (features,
//! inputs). A reshape of x's rows moves behind the product. Not accepted: labels that both operands have and the result
//! too (a product of each head with its own weight), and sums over blocks.

use crate::ir::build::Builder;
use crate::ir::graph::{Dim, Extent, Graph, Outer, Tables, Value};
use crate::ir::kind::Kind;
use crate::ir::op::{BinaryOp, Op};

use super::rewrite::{arranged, at, binary, merged, sole_user};

/// A product with a weight, by labels.
struct Product {
    x: Value,
    w: Value,
    x_labels: Vec<u8>,
    w_labels: Vec<u8>,
    out: Vec<u8>,
}

/// Replaces products with weights; returns how many.
pub fn recognise_linear(tables: &Tables, graph: &mut Graph) -> usize {
    let mut count = 0;
    for node in graph.order() {
        let value: Value = node.into();
        let Some(product) = matched(graph, value) else { continue };
        let features = product.features();
        let bias = bias_of(graph, value, &product.out, &features);
        let root = bias.as_ref().map_or(value, |b| b.root);
        let mut b = at(tables, graph, root);
        let Some(y) = replacement(&mut b, &product, bias) else { continue };
        graph.replace(root, y);
        count += 1;
    }
    count
}

impl Product {
    /// Labels that are summed, in w's order.
    fn summed(&self) -> Vec<u8> {
        self.w_labels.iter().copied().filter(|l| !self.out.contains(l)).collect()
    }

    /// Labels of w that the result has, in w's order.
    fn features(&self) -> Vec<u8> {
        self.w_labels.iter().copied().filter(|l| self.out.contains(l)).collect()
    }

    /// Labels of x that the result has, in x's order.
    fn rows(&self) -> Vec<u8> {
        self.x_labels.iter().copied().filter(|l| self.out.contains(l)).collect()
    }
}

fn matched(graph: &Graph, value: Value) -> Option<Product> {
    let Op::Einsum { a, b, out } = graph.op(value).clone() else { return None };
    let inputs = graph.inputs(value.node);
    let first = Product { x: inputs[1], w: inputs[0], x_labels: b.clone(), w_labels: a.clone(), out: out.clone() };
    let second = Product { x: inputs[0], w: inputs[1], x_labels: a, w_labels: b, out };
    let stored = |p: &Product| is_stored(graph, p.w);
    let candidates = if stored(&first) && !stored(&second) { [first, second] } else { [second, first] };
    candidates.into_iter().find(|p| fits(graph, value, p))
}

/// True for a stored tensor, possibly seen through views.
fn is_stored(graph: &Graph, value: Value) -> bool {
    match graph.op(value) {
        Op::Read(_) => true,
        op => op.kind() == Kind::View && is_stored(graph, graph.inputs(value.node)[0]),
    }
}

fn fits(graph: &Graph, value: Value, p: &Product) -> bool {
    let (x, w, y) = (graph.ty(p.x), graph.ty(p.w), graph.ty(value));
    let summed = p.summed();
    w.outer == Outer::One
        && x.outer == y.outer
        && x.dtype == w.dtype
        && !summed.is_empty()
        && summed.iter().all(|l| p.x_labels.contains(l))
        && p.x_labels.iter().all(|l| p.out.contains(l) != p.w_labels.contains(l))
}

/// A bias that is added to a product.
struct Bias {
    b: Value,
    /// For each dim of b the label of the product it belongs to.
    labels: Vec<u8>,
    /// The sum.
    root: Value,
}

/// The bias that the only user of `value` adds, if it has exactly the feature labels.
fn bias_of(graph: &Graph, value: Value, out: &[u8], features: &[u8]) -> Option<Bias> {
    let root: Value = sole_user(graph, value)?.into();
    let (p, q) = binary(graph, root, BinaryOp::Add)?;
    let (b, from) = arranged(graph, if p == value { q } else { p });
    let ty = graph.ty(b);
    let labels: Vec<u8> =
        (0..ty.dims.len()).filter_map(|k| from.iter().position(|f| *f == Some(k)).map(|j| out[j])).collect();
    let mut sorted = [labels.clone(), features.to_vec()];
    sorted.iter_mut().for_each(|s| s.sort_unstable());
    let fitting = ty.outer == Outer::One && sorted[0] == sorted[1] && ty.dtype == graph.ty(value).dtype;
    fitting.then_some(Bias { b, labels, root })
}

fn replacement(b: &mut Builder, p: &Product, bias: Option<Bias>) -> Option<Value> {
    let (rows, features) = (p.rows(), p.features());
    // w's order of the summed labels if they lie last there, so that w need not move; else x's.
    let in_x: Vec<u8> = p.x_labels.iter().copied().filter(|l| !p.out.contains(l)).collect();
    let summed = if p.w_labels.ends_with(&p.summed()) { p.summed() } else { in_x };

    let (x_dims, w_dims) = (b.ty(p.x).dims, b.ty(p.w).dims);
    let size = |labels: &[u8], all: &[u8], dims: &[Dim]| -> Vec<Dim> {
        labels.iter().filter_map(|l| place(all, *l)).map(|j| dims[j].clone()).collect()
    };
    let inner = merged(&size(&summed, &p.w_labels, &w_dims), "in")?;
    let feature_dims = size(&features, &p.w_labels, &w_dims);
    let outer = merged(&feature_dims, "out")?;
    let row_dims = size(&rows, &p.x_labels, &x_dims);

    let x = ordered(b, p.x, &p.x_labels, &[&rows[..], &summed].concat());
    let x = b.reshape(x, row_dims.iter().cloned().chain([inner.clone()]).collect());
    let x = before_row_views(b, x);
    let w = ordered(b, p.w, &p.w_labels, &[&features[..], &summed].concat());
    let w = b.reshape(w, vec![outer.clone(), inner]);
    let bias = bias.map(|bias| {
        let v = ordered(b, bias.b, &bias.labels, &features);
        b.reshape(v, vec![outer.clone()])
    });

    let y = b.linear(x, w, bias);
    let y = b.reshape(y, row_dims.into_iter().chain(feature_dims).collect());
    Some(ordered(b, y, &[rows, features].concat(), &p.out))
}

fn place(labels: &[u8], label: u8) -> Option<usize> {
    labels.iter().position(|l| *l == label)
}

/// x, whose dims are labelled `have`, permuted to `want`.
fn ordered(b: &mut Builder, x: Value, have: &[u8], want: &[u8]) -> Value {
    let order: Vec<usize> = want.iter().filter_map(|l| place(have, *l)).collect();
    b.permute(x, &order)
}

/// What x is a reshape of, if that only changes how its rows are written.
fn before_row_views(b: &Builder, x: Value) -> Value {
    if *b.graph.op(x) != Op::Reshape {
        return x;
    }
    let source = b.graph.inputs(x.node)[0];
    let (from, to) = (&b.graph.ty(source).dims, &b.graph.ty(x).dims);
    let counted = |d: &Dim| matches!(d.extent, Extent::Counted(_));
    let keeps_last = from.last() == to.last() && !from.last().is_some_and(counted);
    if keeps_last { source } else { x }
}
