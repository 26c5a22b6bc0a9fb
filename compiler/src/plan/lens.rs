//! Strided views whose strides are products of extents, so that they are settled before any token count is known.
//!
//! A lens names the value whose dense storage it looks at, and gives for each of its own dims a stride inside a block,
//! and an offset. Its blocks are the storage's blocks where the outers are alike; where the lens has the larger outer,
//! each of its blocks looks at the block of its clip, or at the only one.

use crate::ir::graph::{CountId, Extent, Outer, Type};

/// A number of elements: `factor` times the product of the counts (sorted).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    /// The static part; 0 makes the whole 0.
    pub factor: usize,
    /// The counted part.
    pub counts: Vec<CountId>,
}

impl Product {
    /// 1.
    pub fn one() -> Product {
        Product { factor: 1, counts: vec![] }
    }

    /// 0: the stride of a repeated dim.
    pub fn zero() -> Product {
        Product { factor: 0, counts: vec![] }
    }

    /// The product of extents.
    pub fn of(extents: &[Extent]) -> Product {
        extents.iter().fold(Product::one(), |p, e| p.times(*e))
    }

    /// One more factor.
    pub fn times(&self, extent: Extent) -> Product {
        if self.factor == 0 {
            return Product::zero();
        }
        let mut product = self.clone();
        match extent {
            Extent::Static(n) => product.factor *= n,
            Extent::Counted(c) => {
                let at = product.counts.partition_point(|&d| d < c);
                product.counts.insert(at, c);
            }
        }
        if product.factor == 0 {
            product.counts.clear();
        }
        product
    }

    /// The number, given the counts of a block.
    pub fn value(&self, count: impl Fn(CountId) -> usize) -> usize {
        self.counts.iter().fold(self.factor, |n, &c| n * count(c))
    }

    /// True if `self` is to be extended to become `other`; None if neither can grow into the other.
    fn smaller(&self, other: &Product) -> Option<bool> {
        if self.counts == other.counts {
            return Some(self.factor < other.factor);
        }
        let within = |a: &[CountId], b: &[CountId]| a.iter().all(|c| b.contains(c)) && a.len() < b.len();
        if within(&self.counts, &other.counts) {
            Some(true)
        } else if within(&other.counts, &self.counts) {
            Some(false)
        } else {
            None
        }
    }
}

/// A strided view.
#[derive(Clone, Debug, PartialEq)]
pub struct Lens {
    /// The value whose storage it looks at.
    pub root: usize,
    /// Sum of (sum of extents) * stride: where a block's first element is.
    pub offset: Vec<(Vec<Extent>, Product)>,
    /// One a dim.
    pub strides: Vec<Product>,
}

impl Lens {
    /// All of a densely stored value.
    pub fn whole(root: usize, extents: &[Extent]) -> Lens {
        Lens { root, offset: vec![], strides: dense(extents) }
    }

    /// Dims permuted, repeated, added.
    pub fn arrange(mut self, from: &[Option<usize>]) -> Lens {
        self.strides = from.iter().map(|f| f.map_or_else(Product::zero, |d| self.strides[d].clone())).collect();
        self
    }

    /// A part of an axis.
    pub fn slice(mut self, axis: usize, start: &[Extent]) -> Lens {
        let start: Vec<Extent> = start.iter().copied().filter(|e| *e != Extent::Static(0)).collect();
        if !start.is_empty() {
            self.offset.push((start, self.strides[axis].clone()));
        }
        self
    }

    /// Other dims, if strides can express them: groups of old dims that lie one inside the other become groups of new ones.
    pub fn reshape(mut self, old: &[Extent], new: &[Extent]) -> Option<Lens> {
        let kept = |extents: &[Extent]| -> Vec<usize> {
            (0..extents.len()).filter(|&d| extents[d] != Extent::Static(1)).collect()
        };
        let (olds, news) = (kept(old), kept(new));
        let mut strides = vec![Product::zero(); new.len()];
        let (mut i, mut j) = (0, 0);
        while i < olds.len() && j < news.len() {
            let (first, first_new) = (i, j);
            let mut have = Product::of(&[old[olds[i]]]);
            let mut want = Product::of(&[new[news[j]]]);
            while have != want {
                if have.smaller(&want)? {
                    i += 1;
                    have = have.times(*old.get(*olds.get(i)?)?);
                } else {
                    j += 1;
                    want = want.times(*new.get(*news.get(j)?)?);
                }
            }
            for d in first..i {
                let inner = olds[d + 1];
                if self.strides[olds[d]] != self.strides[inner].times(old[inner]) {
                    return None;
                }
            }
            let mut stride = self.strides[olds[i]].clone();
            for d in (first_new..=j).rev() {
                strides[news[d]] = stride.clone();
                stride = stride.times(new[news[d]]);
            }
            i += 1;
            j += 1;
        }
        if i < olds.len() || j < news.len() {
            return None;
        }
        self.strides = strides;
        Some(self)
    }

    /// True if a value of type `ty` seen through this lens is contiguous over all its blocks.
    pub fn is_dense(&self, ty: &Type, root: &Type) -> bool {
        let extents = ty.extents();
        let strides = dense(&extents);
        let alike = (0..extents.len()).all(|d| extents[d] == Extent::Static(1) || self.strides[d] == strides[d]);
        let whole = self.offset.is_empty() && Product::of(&extents) == Product::of(&root.extents());
        alike && ty.outer == root.outer && (ty.outer == Outer::One || whole)
    }

    /// True if a value of type `ty` seen through this lens is dense and all of its storage.
    pub fn is_whole(&self, ty: &Type, root: &Type) -> bool {
        self.is_dense(ty, root) && self.offset.is_empty() && Product::of(&ty.extents()) == Product::of(&root.extents())
    }

    /// True if the last dim is contiguous.
    pub fn unit_last(&self, ty: &Type) -> bool {
        match (self.strides.last(), ty.dims.last()) {
            (Some(stride), Some(dim)) => *stride == Product::one() || dim.extent == Extent::Static(1),
            _ => true,
        }
    }
}

/// Strides of a dense row-major block.
fn dense(extents: &[Extent]) -> Vec<Product> {
    let mut strides = vec![Product::one(); extents.len()];
    for d in (1..extents.len()).rev() {
        strides[d - 1] = strides[d].times(extents[d]);
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: Extent = Extent::Counted(CountId(0));
    const fn fixed(n: usize) -> Extent {
        Extent::Static(n)
    }

    #[test]
    fn packed_queries_split_into_heads() {
        // [n, 3 * 4 * 8] -> columns 32..64 -> [n, 4, 8]
        let lens = Lens::whole(0, &[N, fixed(96)]).slice(1, &[fixed(32)]);
        let heads = lens.reshape(&[N, fixed(32)], &[N, fixed(4), fixed(8)]).unwrap();
        let factors: Vec<usize> = heads.strides.iter().map(|s| s.factor).collect();
        assert_eq!(factors, [96, 8, 1]);
        assert_eq!(heads.offset, [(vec![fixed(32)], Product::one())]);
    }

    #[test]
    fn a_size_one_axis_goes_away() {
        let lens = Lens::whole(0, &[N, fixed(3), fixed(4), fixed(8)]).slice(1, &[fixed(2)]);
        let heads = lens.reshape(&[N, fixed(1), fixed(4), fixed(8)], &[N, fixed(4), fixed(8)]).unwrap();
        assert_eq!(heads.strides.iter().map(|s| s.factor).collect::<Vec<_>>(), [96, 8, 1]);
    }

    #[test]
    fn a_transposed_block_has_no_flat_view() {
        let lens = Lens::whole(0, &[N, fixed(4)]).arrange(&[Some(1), Some(0)]);
        assert_eq!(lens.reshape(&[fixed(4), N], &[Extent::Counted(CountId(1))]), None);
        let lens = Lens::whole(0, &[fixed(6), fixed(4)]).arrange(&[Some(1), Some(0)]);
        assert_eq!(lens.reshape(&[fixed(4), fixed(6)], &[fixed(24)]), None);
    }

    #[test]
    fn static_dims_regroup_across_products() {
        let lens = Lens::whole(0, &[fixed(6), fixed(4)]);
        let other = lens.reshape(&[fixed(6), fixed(4)], &[fixed(4), fixed(6)]).unwrap();
        assert_eq!(other.strides.iter().map(|s| s.factor).collect::<Vec<_>>(), [6, 1]);
    }
}
