//! Values of the primitive graph as dense data seen through a view, and the shape trackers of such views.
//!
//! Trackers are made anew for every edge from the dims kept here; see [`super::primitives`] for why.

use std::ops::Range;

use luminal::graph::NodeIndex;
use luminal::shape::ShapeTracker;
use luminal::shape::symbolic::Expression;

/// Luminal counts elements in i32 and wraps silently.
pub(super) const MAX_ELEMENTS: usize = i32::MAX as usize;
/// Dims of a shape tracker.
const MAX_RANK: usize = 6;

/// A value of the graph: dense data of dims `base`, seen with dims `dims`.
#[derive(Clone, Debug)]
pub struct Array {
    pub(super) node: NodeIndex,
    pub(super) base: Vec<usize>,
    /// For each dim the base dim that it walks along (each once), or `None` where elements are repeated.
    pub(super) view: Vec<Option<usize>>,
    pub(super) dims: Vec<usize>,
}

impl Array {
    pub(super) fn dense(node: NodeIndex, dims: &[usize]) -> Array {
        Array { node, base: dims.to_vec(), view: (0..dims.len()).map(Some).collect(), dims: dims.to_vec() }
    }

    /// Dims.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Dim j of the result is dim `from[j]`, or new (repeated) with the size in `dims`. Every dim is used once. No copy.
    pub fn arrange(&self, from: &[Option<usize>], dims: &[usize]) -> Array {
        let view = from.iter().map(|f| f.and_then(|i| self.view[i])).collect();
        let dims = from.iter().zip(dims).map(|(f, n)| f.map_or(*n, |i| self.dims[i])).collect();
        Array { node: self.node, base: self.base.clone(), view, dims }
    }

    /// Dims in another order. No copy.
    pub fn permute(&self, order: &[usize]) -> Array {
        let from: Vec<_> = order.iter().map(|i| Some(*i)).collect();
        self.arrange(&from, &vec![0; order.len()])
    }

    /// A new dim of size `n` at `axis`, elements repeated. No copy.
    pub fn expand(&self, axis: usize, n: usize) -> Array {
        let mut a = self.clone();
        a.view.insert(axis, None);
        a.dims.insert(axis, n);
        a
    }

    /// Elements of the dense data.
    pub(super) fn stored(&self) -> usize {
        self.base.iter().product()
    }

    /// True if the data are as the dims say, in order.
    pub(super) fn is_dense(&self) -> bool {
        let mut next = self.base.iter().enumerate().filter(|(_, n)| **n != 1).map(|(i, _)| i);
        let mut walked = self.view.iter().zip(&self.dims).filter(|(_, n)| **n != 1).map(|(v, _)| *v);
        walked.all(|v| v.is_some() && v == next.next()) && next.next().is_none()
    }

    pub(super) fn same_view(&self, other: &Array) -> bool {
        self.base == other.base && self.view == other.view && self.dims == other.dims
    }
}

/// A number goes with any dims.
pub(super) fn spread(a: &Array, other: &Array) -> Array {
    if a.dims.is_empty() && !other.dims.is_empty() {
        return a.arrange(&vec![None; other.dims.len()], &other.dims);
    }
    a.clone()
}

/// The data as one dim of `n` elements; one stored element is repeated.
pub(super) fn flat(a: &Array, n: usize) -> ShapeTracker {
    if a.stored() == n {
        return tracker(&[n]);
    }
    let mut view = tracker(&[]);
    view.expand(0, expression(n));
    view
}

/// Trackers of arrays with equal dims, neighbouring dims merged where all of them allow it; `None` if more than six
/// are left.
pub(super) fn merge(arrays: &[&Array]) -> Option<Vec<ShapeTracker>> {
    let groups = groups(arrays);
    (groups.len() <= MAX_RANK).then(|| arrays.iter().map(|a| grouped(a, &groups)).collect())
}

/// The dims of arrays with equal dims, as runs that are neighbours in the data of all of them, or repeated in all.
pub(super) fn groups(arrays: &[&Array]) -> Vec<Vec<usize>> {
    // Base dims of size 1 hold no information; `next` skips them.
    let next = |a: &Array, base: usize| (base + 1..a.base.len()).find(|b| a.base[*b] != 1);
    let axes: Vec<usize> = (0..arrays[0].dims.len()).filter(|i| arrays[0].dims[*i] != 1).collect();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for axis in axes {
        let joins = |last: usize| {
            arrays.iter().all(|a| match (a.view[last], a.view[axis]) {
                (None, None) => true,
                (Some(p), Some(q)) => next(a, p) == Some(q),
                (None, Some(_)) | (Some(_), None) => false,
            })
        };
        match groups.last_mut() {
            Some(group) if joins(group[group.len() - 1]) => group.push(axis),
            Some(_) | None => groups.push(vec![axis]),
        }
    }
    groups
}

/// The tracker of an array whose dims are merged into `groups`.
fn grouped(a: &Array, groups: &[Vec<usize>]) -> ShapeTracker {
    let size = |group: &[usize]| group.iter().map(|axis| a.dims[*axis]).product::<usize>();
    // (first base dim, size) of each group that walks along data, in the order of the view.
    let real: Vec<(usize, usize)> = groups.iter().filter_map(|g| a.view[g[0]].map(|base| (base, size(g)))).collect();
    let mut stored = real.clone();
    stored.sort_unstable();
    let mut view = tracker(&stored.iter().map(|r| r.1).collect::<Vec<_>>());
    let order: Vec<usize> =
        real.iter().map(|r| stored.iter().position(|s| s == r).expect("a permutation of the same list")).collect();
    view.permute(&order);
    for (axis, group) in groups.iter().enumerate().filter(|(_, g)| a.view[g[0]].is_none()) {
        view.expand(axis, expression(size(group)));
    }
    view
}

/// Elements before, in and after a range of axes.
pub(super) fn around(dims: &[usize], axes: Range<usize>) -> (usize, usize, usize) {
    let size = |part: &[usize]| part.iter().product();
    (size(&dims[..axes.start]), size(&dims[axes.start..axes.end]), size(&dims[axes.end..]))
}

pub(super) fn tracker(dims: &[usize]) -> ShapeTracker {
    ShapeTracker::new(&dims.iter().map(|n| expression(*n)).collect::<Vec<_>>())
}

/// Sizes that do not fit were noted by `count`, and such a graph is never run.
pub(super) fn expression(n: usize) -> Expression {
    Expression::from(n.min(MAX_ELEMENTS) as i32)
}
