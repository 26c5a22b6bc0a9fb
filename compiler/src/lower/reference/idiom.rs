//! Recognised idioms, written out by their formulas, and their gradients.
//!
//! Shapes: x, g [.., d]; q [n, h, d], k [m, h, d], v [m, h, e], out [n, h, e].

use super::contract::einsum;
use crate::lower::luminal::primitives::{Array, Primitives};

/// (x - mean) / sqrt(var + eps), and 1 / sqrt(var + eps) with the dims of x.
fn normalised(p: &mut Primitives, x: &Array, eps: f64) -> (Array, Array) {
    let (last, d) = last_dim(x);
    let mean = p.mean(x, &[last]).expand(last, d);
    let centred = p.sub(x, &mean);
    let square = p.mul(&centred, &centred);
    let var = p.mean(&square, &[last]);
    let var = p.offset(&var, eps as f32);
    let root = p.sqrt(&var);
    let rstd = p.recip(&root).expand(last, d);
    (p.mul(&centred, &rstd), rstd)
}

/// Normalised x, times w plus b if given.
pub(super) fn layer_norm(p: &mut Primitives, x: &Array, affine: Option<(&Array, &Array)>, eps: f64) -> Array {
    let (y, _) = normalised(p, x, eps);
    let Some((w, b)) = affine else { return y };
    let (w, b) = (along_last(w, x), along_last(b, x));
    let y = p.mul(&y, &w);
    p.add(&y, &b)
}

/// dx, and with w also dw and db of these rows: h = g w, dx = (h - mean h - y mean (h y)) rstd, dw = sum g y, db = sum g.
pub(super) fn layer_norm_grad(p: &mut Primitives, x: &Array, g: &Array, w: Option<&Array>, eps: f64) -> Vec<Array> {
    let (last, d) = last_dim(x);
    let (y, rstd) = normalised(p, x, eps);
    let h = match w {
        Some(w) => p.mul(g, &along_last(w, x)),
        None => g.clone(),
    };
    let mean = p.mean(&h, &[last]).expand(last, d);
    let slope = p.mul(&h, &y);
    let slope = p.mean(&slope, &[last]).expand(last, d);
    let slope = p.mul(&y, &slope);
    let dx = p.sub(&h, &mean);
    let dx = p.sub(&dx, &slope);
    let dx = p.mul(&dx, &rstd);
    if w.is_none() {
        return vec![dx];
    }
    let rows: Vec<usize> = (0..last).collect();
    let dw = p.mul(g, &y);
    vec![dx, p.sum(&dw, &rows), p.sum(g, &rows)]
}

/// exp(x - max) / sum exp(x - max) over the last dim.
pub(super) fn softmax(p: &mut Primitives, x: &Array) -> Array {
    let (last, n) = last_dim(x);
    let top = p.max(x, &[last]).expand(last, n);
    let e = p.sub(x, &top);
    let e = p.exp(&e);
    let sum = p.sum(&e, &[last]);
    let part = p.recip(&sum).expand(last, n);
    p.mul(&e, &part)
}

/// y (g - sum g y).
pub(super) fn softmax_grad(p: &mut Primitives, y: &Array, g: &Array) -> Array {
    let (last, n) = last_dim(y);
    let sum = p.mul(g, y);
    let sum = p.sum(&sum, &[last]).expand(last, n);
    let rest = p.sub(g, &sum);
    p.mul(y, &rest)
}

/// softmax(q k^T scale) v, head by head.
pub(super) fn attention(p: &mut Primitives, q: &Array, k: &Array, v: &Array, scale: f64) -> Array {
    let mut heads = Vec::new();
    for h in 0..q.dims()[1] {
        let (q, k, v) = (head(p, q, h), head(p, k, h), head(p, v, h));
        let probability = scores(p, &q, &k, scale);
        let out = einsum(p, &probability, &v, b"nm", b"me", b"ne");
        heads.push(out.expand(1, 1));
    }
    p.concat(&heads, 1)
}

/// dq, dk, dv: with P = softmax(q k^T scale), dv = P^T g, dP = g v^T, dS = P (dP - sum P dP), dq = dS k scale,
/// dk = dS^T q scale.
pub(super) fn attention_grad(p: &mut Primitives, q: &Array, k: &Array, v: &Array, g: &Array, scale: f64) -> Vec<Array> {
    let mut parts = [vec![], vec![], vec![]];
    for h in 0..q.dims()[1] {
        let (q, k, v, g) = (head(p, q, h), head(p, k, h), head(p, v, h), head(p, g, h));
        let probability = scores(p, &q, &k, scale);
        let dv = einsum(p, &probability, &g, b"nm", b"ne", b"me");
        let dp = p.product(&g, &v);
        let ds = softmax_grad(p, &probability, &dp);
        let ds = p.scale(&ds, scale as f32);
        let dq = einsum(p, &ds, &k, b"nm", b"md", b"nd");
        let dk = einsum(p, &ds, &q, b"nm", b"nd", b"md");
        for (list, part) in parts.iter_mut().zip([dq, dk, dv]) {
            list.push(part.expand(1, 1));
        }
    }
    parts.iter().map(|heads| p.concat(heads, 1)).collect()
}

/// x cdf(x).
pub(super) fn gelu(p: &mut Primitives, x: &Array) -> Array {
    let cdf = p.normal_cdf(x);
    p.mul(x, &cdf)
}

/// g (cdf(x) + x pdf(x)).
pub(super) fn gelu_grad(p: &mut Primitives, x: &Array, g: &Array) -> Array {
    let cdf = p.normal_cdf(x);
    let pdf = p.normal_pdf(x);
    let slope = p.mul(x, &pdf);
    let slope = p.add(&cdf, &slope);
    p.mul(g, &slope)
}

/// softmax(q k^T scale) of one head.
fn scores(p: &mut Primitives, q: &Array, k: &Array, scale: f64) -> Array {
    let s = p.product(q, k);
    let s = p.scale(&s, scale as f32);
    softmax(p, &s)
}

/// [rows, heads, d] to [rows, d].
fn head(p: &mut Primitives, x: &Array, h: usize) -> Array {
    let part = p.slice(x, 1, h..h + 1);
    p.reshape(&part, &[x.dims()[0], x.dims()[2]])
}

/// A vector over the last dim of x, repeated over its rows.
fn along_last(w: &Array, x: &Array) -> Array {
    let mut from = vec![None; x.dims().len()];
    from[x.dims().len() - 1] = Some(0);
    w.arrange(&from, x.dims())
}

/// The last axis and its size.
fn last_dim(x: &Array) -> (usize, usize) {
    let last = x.dims().len() - 1;
    (last, x.dims()[last])
}
