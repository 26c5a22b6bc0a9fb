//! Softmax attention as one op.
//!
//! Accepted: scores = `einsum`(q, k), possibly times or divided by numbers; a softmax of them over one label, the keys;
//! `einsum`(softmax, v) that sums the keys. Operands may stand in either order and dims in any; what they mean follows from
//! where their labels occur:
//!
//! | label | q | k | scores | v | result |
//! |---|---|---|---|---|---|
//! | queries, any number, but a drawn one only alone | x | | x | | x |
//! | keys, exactly one | | x | x | x | |
//! | heads, any number (images of a group count as heads) | x | x | x | x | x |
//! | channels of q and k, at least one | x | x | | | |
//! | channels of v, any number | | | | x | x |
//!
//! q without queries is one query; no heads are one head. A q, k or v with fewer blocks than the result (one learned query
//! for every clip) is repeated. Heads and channels must be static. The scores and their softmax are read by nothing else.
//! Not accepted: scores to which something is added (masks, relative positions), k or v shared between heads, sums
//! over blocks. Results agree within the rounding of a softmax.

use crate::ir::build::Builder;
use crate::ir::graph::{Dim, Graph, Outer, Tables, Value};
use crate::ir::op::Op;

use super::rewrite::{arranged, at, merged, scaled, used_once};

/// An operand with the labels of its dims.
#[derive(Clone)]
struct Labelled {
    value: Value,
    labels: Vec<u16>,
}

impl Labelled {
    fn has(&self, label: u16) -> bool {
        self.labels.contains(&label)
    }
}

/// An attention found in the graph. Labels are those of one space for both products.
struct Found {
    q: Labelled,
    k: Labelled,
    v: Labelled,
    scale: f64,
    keys: u16,
    queries: Vec<u16>,
    heads: Vec<u16>,
    inner: Vec<u16>,
    channels: Vec<u16>,
    out: Vec<u16>,
}

/// Replaces attentions that are spelt out; returns how many.
pub fn recognise_attention(tables: &Tables, graph: &mut Graph) -> usize {
    let mut count = 0;
    for node in graph.order() {
        let value: Value = node.into();
        let Some(found) = matched(graph, value) else { continue };
        let outer = graph.ty(value).outer;
        let mut b = at(tables, graph, value);
        let Some(y) = replacement(&mut b, &found, outer) else { continue };
        graph.replace(value, y);
        count += 1;
    }
    count
}

fn matched(graph: &Graph, value: Value) -> Option<Found> {
    let Op::Einsum { a, b, out } = graph.op(value).clone() else { return None };
    let inputs = graph.inputs(value.node);
    let (wide_a, wide_b, wide_out) = (wide(&a), wide(&b), wide(&out));
    let (first, second) =
        (Labelled { value: inputs[0], labels: wide_a }, Labelled { value: inputs[1], labels: wide_b });
    attention(graph, value, &first, &second, &wide_out).or_else(|| attention(graph, value, &second, &first, &wide_out))
}

/// Labels of the product with v; those of the scores' product lie above them.
fn wide(labels: &[u8]) -> Vec<u16> {
    labels.iter().map(|l| u16::from(*l)).collect()
}

fn attention(graph: &Graph, value: Value, weights: &Labelled, v: &Labelled, out: &[u16]) -> Option<Found> {
    let scores = softmax_of(graph, weights)?;
    let keys = *scores.labels.last()?;
    let (scores, scale) = product_behind(graph, scores)?;
    let Op::Einsum { a, b, out: names } = graph.op(scores.value).clone() else { return None };
    // The labels of the scores get the names they have in the product with v; the others, names of their own.
    let rename = |l: &u8| match names.iter().position(|n| n == l) {
        Some(dim) => scores.labels[dim],
        None => 0x100 + u16::from(*l),
    };
    let inputs = graph.inputs(scores.value.node);
    let side = |i: usize, labels: &[u8]| Labelled { value: inputs[i], labels: labels.iter().map(rename).collect() };
    let (first, second) = (side(0, &a), side(1, &b));
    let (q, k) = if first.has(keys) { (second, first) } else { (first, second) };
    if q.has(keys) || !k.has(keys) || !v.has(keys) || out.contains(&keys) {
        return None;
    }
    let kept = |l: &u16| scores.has(*l);
    let heads: Vec<u16> = k.labels.iter().copied().filter(|l| kept(l) && *l != keys).collect();
    let queries: Vec<u16> = q.labels.iter().copied().filter(|l| kept(l) && !k.has(*l)).collect();
    let inner: Vec<u16> = k.labels.iter().copied().filter(|l| !kept(l)).collect();
    let channels: Vec<u16> = v.labels.iter().copied().filter(|l| *l != keys && !heads.contains(l)).collect();
    let fitting = heads.iter().all(|l| q.has(*l) && v.has(*l) && out.contains(l))
        && queries.iter().all(|l| !v.has(*l) && out.contains(l))
        && !inner.is_empty()
        && inner.iter().all(|l| q.has(*l))
        && q.labels.iter().all(|l| kept(l) || inner.contains(l))
        && channels.iter().all(|l| out.contains(l));
    // No product sums over blocks.
    let outer = |x: &Labelled| graph.ty(x.value).outer;
    let blocks = graph.ty(scores.value).outer == outer(&q).max(outer(&k))
        && graph.ty(value).outer == graph.ty(scores.value).outer.max(outer(v));
    (fitting && blocks).then(|| Found {
        q,
        k,
        v: v.clone(),
        scale,
        keys,
        queries,
        heads,
        inner,
        channels,
        out: out.to_vec(),
    })
}

/// What `weights` is the softmax of, over its last label; nothing else reads the softmax.
fn softmax_of(graph: &Graph, weights: &Labelled) -> Option<Labelled> {
    let mut y = weights.clone();
    while used_once(graph, y.value) {
        if *graph.op(y.value) == Op::Softmax {
            return Some(Labelled { value: graph.inputs(y.value.node)[0], labels: y.labels });
        }
        y = before_permutation(graph, &y)?;
    }
    None
}

/// The product behind scores that are scaled or permuted, and its factor; nothing else reads a step on the way.
fn product_behind(graph: &Graph, mut scores: Labelled) -> Option<(Labelled, f64)> {
    let mut scale = 1.0;
    while used_once(graph, scores.value) {
        if matches!(graph.op(scores.value), Op::Einsum { .. }) {
            return Some((scores, scale));
        }
        if let Some((x, factor)) = scaled(graph, scores.value) {
            (scores.value, scale) = (x, scale * factor);
        } else {
            scores = before_permutation(graph, &scores)?;
        }
    }
    None
}

/// What x is a permutation of.
fn before_permutation(graph: &Graph, x: &Labelled) -> Option<Labelled> {
    let (source, from) = arranged(graph, x.value);
    let same_blocks = graph.ty(source).outer == graph.ty(x.value).outer;
    if source == x.value || !same_blocks || from.contains(&None) {
        return None;
    }
    let label = |k: usize| from.iter().position(|f| *f == Some(k)).map(|j| x.labels[j]);
    let labels = (0..from.len()).map(label).collect::<Option<_>>()?;
    Some(Labelled { value: source, labels })
}

fn replacement(b: &mut Builder, f: &Found, outer: Outer) -> Option<Value> {
    let dims = |x: &Labelled, labels: &[u16], ty: &[Dim]| -> Option<Vec<Dim>> {
        labels.iter().map(|l| x.labels.iter().position(|m| m == l).map(|j| ty[j].clone())).collect()
    };
    let (q_ty, k_ty, v_ty) = (b.ty(f.q.value).dims, b.ty(f.k.value).dims, b.ty(f.v.value).dims);
    let query_dims = dims(&f.q, &f.queries, &q_ty)?;
    let key_dims = dims(&f.k, &[f.keys], &k_ty)?;
    let head_dims = dims(&f.k, &f.heads, &k_ty)?;
    let channel_dims = dims(&f.v, &f.channels, &v_ty)?;
    let n = merged(&query_dims, "queries")?;
    let m = merged(&key_dims, "keys")?;
    let h = merged(&head_dims, "heads")?;
    let d = merged(&dims(&f.k, &f.inner, &k_ty)?, "d")?;
    let e = merged(&channel_dims, "e")?;

    let q = operand(b, &f.q, [&f.queries, &f.heads, &f.inner], outer, [n, h.clone(), d.clone()]);
    let k = operand(b, &f.k, [&[f.keys], &f.heads, &f.inner], outer, [m.clone(), h.clone(), d]);
    let v = operand(b, &f.v, [&[f.keys], &f.heads, &f.channels], outer, [m, h, e]);
    let y = b.op(Op::Attention { scale: f.scale }, &[q, k, v]);
    let y = b.reshape(y, [query_dims, head_dims, channel_dims].concat());
    let have = [&f.queries[..], &f.heads, &f.channels].concat();
    let order: Vec<usize> = f.out.iter().filter_map(|l| have.iter().position(|m| m == l)).collect();
    Some(b.permute(y, &order))
}

/// x permuted to three groups of labels, lifted, and each group merged.
fn operand(b: &mut Builder, x: &Labelled, groups: [&[u16]; 3], outer: Outer, dims: [Dim; 3]) -> Value {
    let ty = b.ty(x.value);
    let order: Vec<usize> =
        groups.iter().flat_map(|g| g.iter()).filter_map(|l| x.labels.iter().position(|m| m == l)).collect();
    let from = order.iter().map(|j| Some(*j)).collect();
    let lying = order.iter().map(|j| ty.dims[*j].clone()).collect();
    let y = b.arrange(x.value, from, outer, lying);
    b.reshape(y, dims.to_vec())
}
