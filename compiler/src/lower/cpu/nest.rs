//! Loop nests over strided operands: the part that all elementwise work and all copies share.
//!
//! The blocks of a value become one nest where that is possible and one each where not; dims that are contiguous in all
//! operands are merged, so that dense work is one long loop.

use super::parallel::{CHUNK, each};
use super::view::View;

/// A nest over N operands: dims, and for each operand a base and strides. All operands share the dims.
struct Nest<const N: usize> {
    dims: Vec<usize>,
    bases: [usize; N],
    strides: Vec<[usize; N]>,
}

/// Runs `row(places, steps, len)` over all innermost rows: operand i's elements lie at `places[i] + j * steps[i]`.
/// Rows of different tasks do not overlap as long as the operand that is written has no stride 0.
pub fn rows<const N: usize>(views: [&View; N], row: impl Fn([usize; N], [usize; N], usize) + Sync + Send) {
    let nests = nests(views);
    let mut tasks = vec![]; // (nest, first row, last row, first element, last element)
    for (n, nest) in nests.iter().enumerate() {
        let inner = *nest.dims.last().unwrap_or(&1);
        let outer: usize = nest.dims.iter().rev().skip(1).product();
        if inner == 0 || outer == 0 {
            continue;
        }
        if inner >= CHUNK {
            for r in 0..outer {
                for start in (0..inner).step_by(CHUNK) {
                    tasks.push((n, r, r + 1, start, (start + CHUNK).min(inner)));
                }
            }
        } else {
            let group = CHUNK / inner;
            for r in (0..outer).step_by(group) {
                tasks.push((n, r, (r + group).min(outer), 0, inner));
            }
        }
    }
    each(tasks.len(), |t| {
        let (n, first, last, start, end) = tasks[t];
        let nest = &nests[n];
        let steps = *nest.strides.last().unwrap_or(&[1; N]);
        let outer = nest.dims.len().saturating_sub(1);
        let mut index = vec![0; outer];
        let mut places = nest.bases;
        let mut rest = first;
        for d in (0..outer).rev() {
            index[d] = rest % nest.dims[d];
            rest /= nest.dims[d];
            for i in 0..N {
                places[i] += index[d] * nest.strides[d][i];
            }
        }
        for _ in first..last {
            let mut from = places;
            for i in 0..N {
                from[i] += start * steps[i];
            }
            row(from, steps, end - start);
            for d in (0..outer).rev() {
                index[d] += 1;
                for i in 0..N {
                    places[i] += nest.strides[d][i];
                }
                if index[d] < nest.dims[d] {
                    break;
                }
                for i in 0..N {
                    places[i] -= nest.dims[d] * nest.strides[d][i];
                }
                index[d] = 0;
            }
        }
    });
}

fn nests<const N: usize>(views: [&View; N]) -> Vec<Nest<N>> {
    let shape = &views[0].shape;
    if shape.blocks == 0 {
        return vec![];
    }
    let strides = |block: usize| -> Vec<[usize; N]> {
        (0..shape.rank).map(|d| std::array::from_fn(|i| views[i].strides(block)[d])).collect()
    };
    let bases = |block: usize| std::array::from_fn(|i| views[i].base(block));
    if views.iter().all(|v| v.dense) {
        return vec![Nest { dims: vec![shape.total()], bases: bases(0), strides: vec![[1; N]] }];
    }
    if shape.uniform {
        let step: [usize; N] = if shape.blocks > 1 {
            std::array::from_fn(|i| views[i].base(1).wrapping_sub(views[i].base(0)))
        } else {
            [0; N]
        };
        let even = (0..shape.blocks)
            .all(|b| (0..N).all(|i| views[i].base(b) == views[i].base(0).wrapping_add(b.wrapping_mul(step[i]))));
        if even && (0..N).all(|i| step[i] < usize::MAX / 2) {
            let dims = std::iter::once(shape.blocks).chain(shape.dims(0).iter().copied()).collect();
            let strides = std::iter::once(step).chain(strides(0)).collect();
            return vec![merged(Nest { dims, bases: bases(0), strides })];
        }
    }
    (0..shape.blocks)
        .map(|b| merged(Nest { dims: shape.dims(b).to_vec(), bases: bases(b), strides: strides(b) }))
        .collect()
}

fn merged<const N: usize>(nest: Nest<N>) -> Nest<N> {
    let mut dims: Vec<usize> = vec![];
    let mut strides: Vec<[usize; N]> = vec![];
    for (dim, stride) in nest.dims.iter().zip(&nest.strides) {
        if *dim == 1 {
            continue;
        }
        match (dims.last_mut(), strides.last_mut()) {
            (Some(outer), Some(last)) if (0..N).all(|i| last[i] == stride[i] * dim) => {
                *outer *= dim;
                *last = *stride;
            }
            _ => {
                dims.push(*dim);
                strides.push(*stride);
            }
        }
    }
    if dims.is_empty() {
        dims.push(1);
        strides.push([1; N]);
    }
    Nest { dims, bases: nest.bases, strides }
}
