//! Reductions and contractions.

use crate::ir::op::ReduceOp;
use crate::lower::luminal::primitives::{Array, Primitives};

/// Below this many multiplications a part of a batched product is not worth a matrix product of its own (by feel).
const SMALL_PRODUCT: usize = 512;

/// Over `axes` (ascending), which go away.
pub(super) fn reduce(p: &mut Primitives, op: ReduceOp, a: &Array, axes: &[usize]) -> Array {
    match op {
        ReduceOp::Sum | ReduceOp::Count => p.sum(a, axes),
        ReduceOp::Mean => p.mean(a, axes),
        ReduceOp::Max | ReduceOp::Any => p.max(a, axes),
        ReduceOp::Min | ReduceOp::All => p.min(a, axes),
    }
}

/// The smallest position whose element equals the largest: the smallest of position + (1 - equal) n.
pub(super) fn argmax(p: &mut Primitives, a: &Array, axis: usize) -> Array {
    let n = a.dims()[axis];
    let largest = p.max(a, &[axis]).expand(axis, n);
    let other = p.unequal(a, &largest);
    let other = p.scale(&other, n as f32);
    let mut from = vec![None; a.dims().len()];
    from[axis] = Some(0);
    let places = p.iota(n).arrange(&from, a.dims());
    let places = p.add(&places, &other);
    p.min(&places, &[axis])
}

/// Sum of products; labels name the dims.
pub(super) fn einsum(p: &mut Primitives, a: &Array, b: &Array, la: &[u8], lb: &[u8], out: &[u8]) -> Array {
    // What only one operand has and the result has not is summed first.
    let (a, la) = sum_missing(p, a, la, &[lb, out]);
    let (b, lb) = sum_missing(p, b, lb, &[&la, out]);
    let both: Vec<u8> = la.iter().copied().filter(|l| lb.contains(l) && out.contains(l)).collect();
    let rows: Vec<u8> = la.iter().copied().filter(|l| !lb.contains(l)).collect();
    let columns: Vec<u8> = lb.iter().copied().filter(|l| !la.contains(l)).collect();
    let summed: Vec<u8> = la.iter().copied().filter(|l| lb.contains(l) && !out.contains(l)).collect();
    let order = |labels: &[u8], wanted: &[&[u8]]| -> Vec<usize> {
        wanted.concat().iter().map(|l| labels.iter().position(|m| m == l).expect("a label of this operand")).collect()
    };
    let a = a.permute(&order(&la, &[&both, &rows, &summed]));
    let b = b.permute(&order(&lb, &[&both, &columns, &summed]));
    let dims: Vec<usize> =
        a.dims()[..both.len() + rows.len()].iter().chain(&b.dims()[both.len()..][..columns.len()]).copied().collect();
    let result = batched(p, &a, &b, both.len(), rows.len(), columns.len());
    let result = p.reshape(&result, &dims);
    let labels = [both, rows, columns].concat();
    result.permute(&order(&labels, &[out]))
}

/// x w^T + b over the last dim.
pub(super) fn linear(p: &mut Primitives, x: &Array, w: &Array, b: Option<&Array>) -> Array {
    let rank = x.dims().len();
    let mut dims = x.dims().to_vec();
    dims[rank - 1] = w.dims()[0];
    let rows = p.matrix_of(x, rank - 1);
    let mut y = p.product(&rows, w);
    if let Some(b) = b {
        let b = b.expand(0, y.dims()[0]);
        y = p.add(&y, &b);
    }
    p.reshape(&y, &dims)
}

fn sum_missing(p: &mut Primitives, a: &Array, labels: &[u8], others: &[&[u8]]) -> (Array, Vec<u8>) {
    let used = |l: &u8| others.iter().any(|o| o.contains(l));
    let axes: Vec<usize> = (0..labels.len()).filter(|i| !used(&labels[*i])).collect();
    let rest = labels.iter().copied().filter(|l| used(l)).collect();
    if axes.is_empty() { (a.clone(), rest) } else { (p.sum(a, &axes), rest) }
}

/// a [both.., rows.., summed..], b [both.., columns.., summed..]: result [both, rows, columns], each one dim.
fn batched(p: &mut Primitives, a: &Array, b: &Array, both: usize, rows: usize, columns: usize) -> Array {
    let size = |dims: &[usize]| dims.iter().product::<usize>();
    let (parts, m, n) = (size(&a.dims()[..both]), size(&a.dims()[both..][..rows]), size(&b.dims()[both..][..columns]));
    let k = size(&a.dims()[both + rows..]);
    if both == 0 {
        let (a, b) = (p.matrix_of(a, rows), p.matrix_of(b, columns));
        let y = p.product(&a, &b);
        return p.reshape(&y, &[1, m, n]);
    }
    let (a, b) = (p.reshape(a, &[parts, m, k]), p.reshape(b, &[parts, n, k]));
    if m * n * k < SMALL_PRODUCT {
        let y = p.mul(&a.expand(2, n), &b.expand(1, m));
        return p.sum(&y, &[3]);
    }
    let mut results = Vec::new();
    for i in 0..parts {
        let (a, b) = (p.slice(&a, 0, i..i + 1), p.slice(&b, 0, i..i + 1));
        let (a, b) = (p.reshape(&a, &[m, k]), p.reshape(&b, &[n, k]));
        let y = p.product(&a, &b);
        results.push(p.reshape(&y, &[1, m, n]));
    }
    p.concat(&results, 0)
}
