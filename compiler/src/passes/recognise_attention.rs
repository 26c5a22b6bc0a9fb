//! Softmax attention as one op.
//!
//! Accepted: scores = `einsum`(q, k), possibly times or divided by numbers; a softmax of them over one label, the keys;
//! `einsum`(softmax, v) that sums the keys. Operands may stand in either order and dims in any; what they mean follows from
//! where their labels occur:
//!
//! | label | q | k | scores | v | result |
//! |---|---|---|---|---|---|
//! | queries, at most one that is not 1 wide if drawn | x | | x | | x |
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
    let p = softmax_of(graph, weights)?;
    let (scores, scale) = scores_of(graph, p.scores.value)?;
    let Op::Einsum { a, b, out: score_labels } = graph.op(scores).clone() else { return None };
    // Rename the labels of the first product: those of the scores get their names in the second one.
    let (_, from) = p.from_scores(graph, scores)?;
    let rename = |l: &u8| match score_labels.iter().position(|s| s == l) {
        Some(dim) => from.iter().position(|f| *f == Some(dim)).map(|j| p.scores.labels[j]),
        None => Some(0x100 + u16::from(*l)),
    };
    let inputs = graph.inputs(scores.node);
    let side = |i: usize, labels: &[u8]| -> Option<Labelled> {
        Some(Labelled { value: inputs[i], labels: labels.iter().map(rename).collect::<Option<_>>()? })
    };
    let (first, second) = (side(0, &a)?, side(1, &b)?);
    let keys = p.keys;
    let (q, k) = if first.has(keys) { (second, first) } else { (first, second) };
    if q.has(keys) || !k.has(keys) || !v.has(keys) || out.contains(&keys) {
        return None;
    }
    let all_scores: Vec<u16> = p.scores.labels.clone();
    let kept = |l: &u16| all_scores.contains(l);
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
    let blocks = graph.ty(scores).outer == outer(&q).max(outer(&k))
        && graph.ty(value).outer == graph.ty(scores).outer.max(outer(v));
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

/// A softmax that is seen through permutations.
struct Weights {
    /// What it is the softmax of, with the labels of the product with v.
    scores: Labelled,
    /// The label it runs over.
    keys: u16,
}

fn softmax_of(graph: &Graph, weights: &Labelled) -> Option<Weights> {
    let (y, from) = arranged(graph, weights.value);
    let plain = graph.ty(y).outer == graph.ty(weights.value).outer && !from.contains(&None);
    if *graph.op(y) != Op::Softmax
        || !plain
        || !used_once(graph, weights.value)
        || !used_once_or_same(graph, y, weights)
    {
        return None;
    }
    let rank = graph.ty(y).dims.len();
    let labels: Vec<u16> =
        (0..rank).map(|k| from.iter().position(|f| *f == Some(k)).map(|j| weights.labels[j])).collect::<Option<_>>()?;
    let keys = *labels.last()?;
    Some(Weights { scores: Labelled { value: graph.inputs(y.node)[0], labels }, keys })
}

fn used_once_or_same(graph: &Graph, y: Value, weights: &Labelled) -> bool {
    y == weights.value || used_once(graph, y)
}

impl Weights {
    /// The product behind the scores and how its dims lie in the scores, which may be scaled before or after a permutation.
    fn from_scores(&self, graph: &Graph, product: Value) -> Option<(Value, Vec<Option<usize>>)> {
        let mut value = self.scores.value;
        let mut from: Vec<Option<usize>> = (0..graph.ty(value).dims.len()).map(Some).collect();
        while value != product {
            if let Some((x, _)) = scaled(graph, value) {
                value = x;
                continue;
            }
            let (x, inner) = arranged(graph, value);
            if x == value || inner.contains(&None) || graph.ty(x).outer != graph.ty(value).outer {
                return None;
            }
            from = from.iter().map(|f| f.and_then(|k| inner[k])).collect();
            value = x;
        }
        Some((value, from))
    }
}

/// The product behind scores that are scaled or permuted, and its factor; every step on the way is read once.
fn scores_of(graph: &Graph, scores: Value) -> Option<(Value, f64)> {
    let (mut value, mut scale) = (scores, 1.0);
    loop {
        if !used_once(graph, value) {
            return None;
        }
        if let Some((x, factor)) = scaled(graph, value) {
            (value, scale) = (x, scale * factor);
            continue;
        }
        let (x, _) = arranged(graph, value);
        if x == value {
            return matches!(graph.op(value), Op::Einsum { .. }).then_some((value, scale));
        }
        value = x;
    }
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
