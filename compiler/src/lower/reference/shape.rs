//! Joins, gathers and patches.

use super::contract::einsum;
use crate::lower::luminal::primitives::{Array, Primitives};

/// Up to this many shared positions a gather is one product each, beyond it one large product and sum (by feel).
const SHARED_PRODUCTS: usize = 16;

/// Axis `axis` of x is replaced by index's dims after the first `shared`: a product with the one-hot matrix of the
/// index. A row that is not finite spoils its neighbours (0 times infinity).
pub(super) fn gather(p: &mut Primitives, x: &Array, index: &Array, axis: usize, shared: usize) -> Array {
    let split = Split::new(x.dims(), axis, shared);
    let n: usize = index.dims()[shared..].iter().product();
    let x = p.reshape(x, &split.dims());
    let hot = hot(p, index, &split, n);
    // x [s, a, v, b], hot [s, n, v]
    let y = product(p, &x, &hot, &split, n, [b"savb", b"snv", b"sanb"]);
    let mut dims = split.outer.clone();
    dims.extend(&split.middle);
    dims.extend(&index.dims()[shared..]);
    dims.extend(&split.inner);
    p.reshape(&y, &dims)
}

/// The gradient of [`gather`]: rows of g added into zeros of dims `dims`.
pub(super) fn scatter_add(
    p: &mut Primitives,
    g: &Array,
    index: &Array,
    axis: usize,
    shared: usize,
    dims: &[usize],
) -> Array {
    let split = Split::new(dims, axis, shared);
    let n: usize = index.dims()[shared..].iter().product();
    let [s, a, _, b] = split.dims();
    let g = p.reshape(g, &[s, a, n, b]);
    let hot = hot(p, index, &split, n);
    let y = product(p, &g, &hot, &split, n, [b"sanb", b"snv", b"savb"]);
    p.reshape(&y, dims)
}

/// Clip [F, H, W, C] to tubelets as rows [tokens, C tube dy dx].
pub(super) fn patches(p: &mut Primitives, clip: &Array, [tube, dy, dx]: [usize; 3]) -> Array {
    let [f, h, w, c]: [usize; 4] = clip.dims().try_into().expect("compiler bug: patches of what is no clip");
    let x = p.reshape(clip, &[f / tube, tube, h / dy, dy, w / dx, dx, c]);
    let x = x.permute(&[0, 2, 4, 6, 1, 3, 5]);
    p.reshape(&x, &[(f / tube) * (h / dy) * (w / dx), c * tube * dy * dx])
}

/// The dims of x around the gathered axis: shared with the index, between, gathered, and behind.
struct Split {
    outer: Vec<usize>,
    middle: Vec<usize>,
    axis: usize,
    inner: Vec<usize>,
}

impl Split {
    fn new(dims: &[usize], axis: usize, shared: usize) -> Split {
        Split {
            outer: dims[..shared].to_vec(),
            middle: dims[shared..axis].to_vec(),
            axis: dims[axis],
            inner: dims[axis + 1..].to_vec(),
        }
    }

    fn dims(&self) -> [usize; 4] {
        let size = |dims: &[usize]| dims.iter().product();
        [size(&self.outer), size(&self.middle), self.axis, size(&self.inner)]
    }
}

/// [shared, n, axis].
fn hot(p: &mut Primitives, index: &Array, split: &Split, n: usize) -> Array {
    let shared = split.dims()[0];
    let index = p.reshape(index, &[shared, n]);
    p.one_hot(&index, split.axis)
}

/// Contracts x [s, a, .., b] with hot [s, n, v] as the labels say.
fn product(p: &mut Primitives, x: &Array, hot: &Array, split: &Split, n: usize, labels: [&[u8]; 3]) -> Array {
    let [s, a, v, b] = split.dims();
    let [lx, lh, lo] = labels;
    if s == 1 || s <= SHARED_PRODUCTS {
        let mut parts = Vec::new();
        for i in 0..s {
            let (x, hot) = (p.slice(x, 0, i..i + 1), p.slice(hot, 0, i..i + 1));
            let (x, hot) = (p.reshape(&x, &x.dims()[1..]), p.reshape(&hot, &[n, v]));
            let y = einsum(p, &x, &hot, &lx[1..], &lh[1..], &lo[1..]);
            let mut dims = vec![1];
            dims.extend(y.dims());
            parts.push(p.reshape(&y, &dims));
        }
        return p.concat(&parts, 0);
    }
    // Both as [s, a, n, v, b], then the sum over the label that the result lacks.
    let all = [s, a, n, v, b];
    let spread = |array: &Array, labels: &[u8]| {
        let from: Vec<Option<usize>> = b"sanvb".iter().map(|l| labels.iter().position(|m| m == l)).collect();
        array.arrange(&from, &all)
    };
    let y = p.mul(&spread(x, lx), &spread(hot, lh));
    let axis = if lo.contains(&b'n') { 3 } else { 2 };
    p.sum(&y, &[axis])
}
