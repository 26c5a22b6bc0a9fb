//! Reductions and contractions.

use super::{Blocks, Ctx, around, permuted};
use crate::ir::extent::larger;
use crate::ir::op::ReduceOp;

impl Ctx<'_> {
    pub(super) fn reduce(&self, op: ReduceOp, axes: &[usize], b: usize) -> Vec<f64> {
        let x = &self.inputs[0];
        let dims = &x.dims[b];
        let kept = (0..dims.len()).filter(|i| !axes.contains(i));
        let order: Vec<usize> = kept.chain(axes.iter().copied()).collect();
        let n: usize = axes.iter().map(|a| dims[*a]).product();
        let rows: usize = self.dims(b).iter().product();
        let x = permuted(&x.blocks[b], dims, &order);
        (0..rows).map(|r| reduced(op, &x[r * n..][..n])).collect()
    }

    pub(super) fn argmax(&self, axis: usize, b: usize) -> Vec<f64> {
        let x = &self.inputs[0];
        let (before, len, after) = around(&x.dims[b], axis);
        let at = |i: usize, k: usize, j: usize| x.blocks[b][(i * len + k) * after + j];
        let first = |i, j| (1..len).fold(0, |best, k| if at(i, k, j) > at(i, best, j) { k } else { best }) as f64;
        (0..before).flat_map(|i| (0..after).map(move |j| first(i, j))).collect()
    }

    pub(super) fn fold(&self, mean: bool) -> Blocks {
        let (x, outer) = (&self.inputs[0], self.node.types[0].outer);
        let mut out = self.each(|c, b| vec![0.0; c.dims(b).iter().product()]);
        for (b, block) in x.blocks.iter().enumerate() {
            add(&mut out[self.part_of(outer, x.ty.outer, b)], block);
        }
        if mean {
            let n = (x.blocks.len() / out.len()) as f64;
            out.iter_mut().flatten().for_each(|o| *o /= n);
        }
        out
    }

    /// Each input is summed over labels that only it has, both become matrices for each batch label, then
    /// out[batch, m, n] = sum over k of a[batch, m, k] b[batch, n, k].
    pub(super) fn einsum(&self, a: &[u8], b: &[u8], out: &[u8]) -> Blocks {
        let (x, y, ty) = (&self.inputs[0], &self.inputs[1], &self.node.types[0]);
        let full = larger(x.ty.outer, y.ty.outer).expect("compiler bug: segments of different sets");
        let only =
            |p: bool, q: bool, o: bool| move |l: &&u8| (a.contains(l), b.contains(l), out.contains(l)) == (p, q, o);
        let batch: Vec<u8> = out.iter().filter(only(true, true, true)).copied().collect();
        let m: Vec<u8> = out.iter().filter(only(true, false, true)).copied().collect();
        let n: Vec<u8> = out.iter().filter(only(false, true, true)).copied().collect();
        let k: Vec<u8> = a.iter().filter(only(true, true, false)).copied().collect();
        let mut result = self.each(|c, b| vec![0.0; c.dims(b).iter().product()]);
        for block in 0..self.blocks(full) {
            let (xb, yb) = (self.part_of(x.ty.outer, full, block), self.part_of(y.ty.outer, full, block));
            let size = |labels: &[u8]| -> usize {
                let of = |l: &u8| match a.iter().position(|m| m == l) {
                    Some(i) => x.dims[xb][i],
                    None => y.dims[yb][b.iter().position(|m| m == l).expect("a label of an input")],
                };
                labels.iter().map(of).product()
            };
            let left = matrix(&x.blocks[xb], &x.dims[xb], a, &[&batch[..], &m, &k].concat());
            let right = matrix(&y.blocks[yb], &y.dims[yb], b, &[&batch[..], &n, &k].concat());
            let (n_batch, n_m, n_n, n_k) = (size(&batch), size(&m), size(&n), size(&k));
            let mut product = Vec::with_capacity(n_batch * n_m * n_n);
            for i in 0..n_batch {
                for r in 0..n_m {
                    let row = &left[(i * n_m + r) * n_k..][..n_k];
                    product.extend((0..n_n).map(|s| dot(row, &right[(i * n_n + s) * n_k..][..n_k])));
                }
            }
            let labels = [&batch[..], &m, &n].concat();
            let dims: Vec<usize> = labels.iter().map(|l| size(&[*l])).collect();
            let place = |l: &u8| labels.iter().position(|m| m == l).expect("a label of the result");
            let order: Vec<usize> = out.iter().map(place).collect();
            add(&mut result[self.part_of(ty.outer, full, block)], &permuted(&product, &dims, &order));
        }
        result
    }
}

/// `x` with its labels in the given order, summed over those that are not in it.
fn matrix(x: &[f64], dims: &[usize], labels: &[u8], order: &[u8]) -> Vec<f64> {
    let place = |l: &u8| labels.iter().position(|m| m == l).expect("a label of the input");
    let mut axes: Vec<usize> = order.iter().map(place).collect();
    let lone: Vec<usize> = (0..dims.len()).filter(|i| !axes.contains(i)).collect();
    axes.extend(&lone);
    let n: usize = lone.iter().map(|i| dims[*i]).product();
    let x = permuted(x, dims, &axes);
    if lone.is_empty() { x } else { x.chunks(n.max(1)).map(|c| c.iter().sum()).collect() }
}

fn reduced(op: ReduceOp, x: &[f64]) -> f64 {
    match op {
        ReduceOp::Sum | ReduceOp::Count => x.iter().sum(),
        ReduceOp::Mean => x.iter().sum::<f64>() / x.len() as f64,
        ReduceOp::Max => x.iter().copied().fold(f64::NEG_INFINITY, |m, v| if v > m || v.is_nan() { v } else { m }),
        ReduceOp::Min => x.iter().copied().fold(f64::INFINITY, |m, v| if v < m || v.is_nan() { v } else { m }),
        ReduceOp::Any => f64::from(x.iter().any(|v| *v != 0.0)),
        ReduceOp::All => f64::from(x.iter().all(|v| *v != 0.0)),
    }
}

/// Sum of products.
pub(super) fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// Adds `x` into `into`.
pub(super) fn add(into: &mut [f64], x: &[f64]) {
    into.iter_mut().zip(x).for_each(|(o, x)| *o += x);
}
