//! Luminal's primitive operations for shapes that are known only at run time.
//!
//! [`Primitives`] is a graph under construction and [`Array`] a value in it: dense data seen through a permuted or
//! repeated view. Luminal's shape trackers are wrong on many views, so dims are kept here and trackers are written anew
//! for every edge, on the subset that was found to be right:
//!
//! - permuted and repeated views of dense data only; a slice or a pad is copied at once;
//! - a reshape only of dense data;
//! - at most six dims (neighbours that stay neighbours in all operands are merged first, a view that still has more is
//!   copied in several steps), no extent of zero, fewer than 2^31 elements, one output an operation.
//!
//! Matrix products are written as a multiplication and a sum, and luminal's pass for that pattern gives them to a
//! matrix kernel: without it a product costs some 300 ns for each multiplication and addition. Other operations cost
//! 3 ns (unary) or 60 to 400 ns for each element, for luminal evaluates an index expression for each; so multiples, sums
//! of rows and repetitions are written as products with a number or with ones, too. This is for tiny shapes.

use std::collections::BTreeMap;
use std::ops::Range;

use luminal::graph::{Graph, NodeIndex};
use luminal::op::{self, Operator};
use luminal::prelude::BatchMatMul2DCompiler;
use luminal::prelude::petgraph::Direction;
use luminal::shape::ShapeTracker;
use luminal::tensor::Tensor;

use super::array::{MAX_ELEMENTS, around, expression, flat, groups, merge, spread, tracker};
use crate::lower::LowerError;

pub use super::array::Array;

/// Elementwise functions of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "luminal's names")]
pub enum Unary {
    Exp2,
    Log2,
    Sin,
    Sqrt,
    Recip,
}

/// Elementwise functions of two arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "luminal's names")]
pub enum Binary {
    Add,
    Mul,
    /// Truncated: the result has the sign of the first argument.
    Mod,
    /// 1 where a < b, else 0.
    LessThan,
}

/// Reductions. `Max` leaves NaN out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "luminal's names")]
pub enum Reduce {
    Sum,
    Max,
}

/// What a run left behind.
pub struct Results {
    graph: Box<Graph>,
    kept: Vec<NodeIndex>,
}

impl Results {
    /// The elements of a kept array.
    pub fn take(&self, kept: Kept) -> Result<Vec<f32>, LowerError> {
        let tensor = self.graph.get_tensor_ref(self.kept[kept.0], 0);
        let data = tensor.and_then(|t| t.data.as_any().downcast_ref::<Vec<f32>>());
        data.cloned().ok_or_else(|| LowerError::Bug("compiler bug: a kept array has no data after the run".into()))
    }
}

/// An array whose elements are wanted after the run.
#[derive(Clone, Copy, Debug)]
pub struct Kept(usize);

/// A graph of primitive operations, built once and run once.
///
/// The first error (too many elements) is remembered and reported by [`Primitives::execute`], so that building code
/// need not check every step.
#[derive(Default)]
pub struct Primitives {
    graph: Box<Graph>,
    numbers: BTreeMap<u32, NodeIndex>,
    ones: BTreeMap<usize, NodeIndex>,
    kept: Vec<NodeIndex>,
    error: Option<LowerError>,
    elements: usize,
}

impl Primitives {
    /// An empty graph.
    pub fn new() -> Primitives {
        Primitives::default()
    }

    /// Elements of all arrays made so far: an upper bound of what a run holds.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Given elements.
    pub fn data(&mut self, data: Vec<f32>, dims: &[usize]) -> Array {
        assert_eq!(data.len(), dims.iter().product::<usize>(), "compiler bug: data do not fit the dims {dims:?}");
        self.count(dims);
        let load = op::Function("data".into(), Box::new(|_| unreachable!("data are set before the run")));
        let node = self.graph.add_op(load).finish();
        self.graph.set_tensor(node, 0, Tensor::new(data));
        Array::dense(node, dims)
    }

    /// A number, without dims.
    pub fn number(&mut self, x: f32) -> Array {
        if let Some(node) = self.numbers.get(&x.to_bits()) {
            return Array::dense(*node, &[]);
        }
        let array = self.data(vec![x], &[]);
        self.numbers.insert(x.to_bits(), array.node);
        array
    }

    /// `n` ones as a matrix of `dims`.
    fn ones(&mut self, n: usize, dims: [usize; 2]) -> Array {
        if !self.ones.contains_key(&n) {
            let array = self.data(vec![1.0; n], &[n]);
            self.ones.insert(n, array.node);
        }
        Array::dense(self.ones[&n], &dims)
    }

    /// A function of every element.
    pub fn unary(&mut self, f: Unary, a: &Array) -> Array {
        // Luminal's unary operations ignore the view and work on the data, so the result keeps the view.
        let flat = tracker(&[a.stored().max(1)]);
        self.count(&a.base);
        let node = match f {
            Unary::Exp2 => self.node(op::Exp2, &[(a.node, flat)]),
            Unary::Log2 => self.node(op::Log2, &[(a.node, flat)]),
            Unary::Sin => self.node(op::Sin, &[(a.node, flat)]),
            Unary::Sqrt => self.node(op::Sqrt, &[(a.node, flat)]),
            Unary::Recip => self.node(op::Recip, &[(a.node, flat)]),
        };
        Array { node, ..a.clone() }
    }

    /// A function of two arrays of equal dims; one without dims goes with all.
    pub fn binary(&mut self, f: Binary, a: &Array, b: &Array) -> Array {
        let (a, b) = (spread(a, b), spread(b, a));
        assert_eq!(a.dims, b.dims, "compiler bug: elementwise operands differ in dims");
        // A multiple of a.
        if f == Binary::Mul && a.stored() == 1 && b.stored() != 1 {
            return self.binary(f, &b, &a);
        }
        if f == Binary::Mul && b.stored() == 1 && a.stored() != 1 {
            let (column, number) = (Array::dense(a.node, &[a.stored(), 1]), Array::dense(b.node, &[1, 1]));
            let node = self.product(&column, &number).node;
            return Array { node, ..a };
        }
        // Equal views, or one repeated number: work on the data and keep the view.
        if a.same_view(&b) || b.stored() == 1 {
            let node = self.binary_node(f, (a.node, flat(&a, a.stored())), (b.node, flat(&b, a.stored())), &a.base);
            return Array { node, ..a };
        }
        if a.stored() == 1 {
            let node = self.binary_node(f, (a.node, flat(&a, b.stored())), (b.node, flat(&b, b.stored())), &b.base);
            return Array { node, ..b };
        }
        let (a, b) = (self.repeated(&a).unwrap_or(a), self.repeated(&b).unwrap_or(b));
        let (a, b) = match merge(&[&a, &b]) {
            Some(trackers) => ((a.node, trackers[0]), (b.node, trackers[1], a.dims)),
            None => {
                let (a, b) = (self.dense(&a), self.dense(&b));
                let n = a.stored();
                ((a.node, flat(&a, n)), (b.node, flat(&b, n), a.dims))
            }
        };
        let node = self.binary_node(f, a, (b.0, b.1), &b.2);
        Array::dense(node, &b.2)
    }

    /// Over the given axes (ascending), which go away.
    pub fn reduce(&mut self, f: Reduce, a: &Array, axes: &[usize]) -> Array {
        let mut a = self.dense(a);
        let mut axes = axes.to_vec();
        while let Some(last) = axes.pop() {
            // Neighbouring axes are reduced as one.
            let mut first = last;
            while first > 0 && axes.last() == Some(&(first - 1)) {
                axes.pop();
                first -= 1;
            }
            let (front, n, back) = around(&a.dims, first..last + 1);
            let mut dims = a.dims.clone();
            dims.drain(first..last + 1);
            self.count(&dims);
            let view = tracker(&[front, n, back]);
            let node = match f {
                // Sums of rows or of columns.
                Reduce::Sum if back == 1 => {
                    let ones = self.ones(n, [1, n]);
                    self.product(&Array::dense(a.node, &[front, n]), &ones).node
                }
                Reduce::Sum if front == 1 => {
                    let ones = self.ones(n, [1, n]);
                    self.product(&Array::dense(a.node, &[n, back]).permute(&[1, 0]), &ones).node
                }
                Reduce::Sum => self.node(op::SumReduce(1), &[(a.node, view)]),
                Reduce::Max => self.node(op::MaxReduce(1), &[(a.node, view)]),
            };
            a = Array::dense(node, &dims);
        }
        a
    }

    /// The same elements in order with other dims.
    pub fn reshape(&mut self, a: &Array, dims: &[usize]) -> Array {
        if a.dims == dims {
            return a.clone();
        }
        let a = self.dense(a);
        assert_eq!(
            a.stored(),
            dims.iter().product::<usize>(),
            "compiler bug: a reshape changes the number of elements"
        );
        Array::dense(a.node, dims)
    }

    /// Positions `range` of an axis.
    pub fn slice(&mut self, a: &Array, axis: usize, range: Range<usize>) -> Array {
        if range == (0..a.dims[axis]) {
            return a.clone();
        }
        let a = self.dense(a);
        let (front, n, back) = around(&a.dims, axis..axis + 1);
        let mut view = tracker(&[front, n, back]);
        view.slice(&[
            (expression(0), expression(front)),
            (expression(range.start), expression(range.end)),
            (expression(0), expression(back)),
        ]);
        let mut dims = a.dims;
        dims[axis] = range.len();
        self.copy(a.node, view, &dims)
    }

    /// Zeros along an axis: `before` in front and `after` behind.
    pub fn pad(&mut self, a: &Array, axis: usize, before: usize, after: usize) -> Array {
        if before + after == 0 {
            return a.clone();
        }
        let a = self.dense(a);
        let (front, n, back) = around(&a.dims, axis..axis + 1);
        let mut view = tracker(&[front, n, back]);
        let none = (expression(0), expression(0));
        view.pad(&[none, (expression(before), expression(after)), none]);
        let mut dims = a.dims;
        dims[axis] += before + after;
        self.copy(a.node, view, &dims)
    }

    /// Dims before `split` as rows, the others as columns, without a copy where the view allows it.
    pub fn matrix_of(&mut self, a: &Array, split: usize) -> Array {
        let size = |dims: &[usize]| dims.iter().product::<usize>();
        let (rows, columns) = (size(&a.dims[..split]), size(&a.dims[split..]));
        // A transposed view: first the columns, then the rows, in the data.
        let back: Vec<usize> = (split..a.dims.len()).chain(0..split).collect();
        if !a.is_dense() && a.permute(&back).is_dense() {
            return Array::dense(a.node, &[columns, rows]).permute(&[1, 0]);
        }
        self.reshape(a, &[rows, columns])
    }

    /// a b^T: a [m, k], b [n, k], result [m, n].
    pub fn product(&mut self, a: &Array, b: &Array) -> Array {
        let (a, b) = (self.matrix(a), self.matrix(b));
        let (m, k, n) = (a.dims[0], a.dims[1], b.dims[0]);
        assert_eq!(k, b.dims[1], "compiler bug: the summed dims of a product differ");
        // The pattern that luminal gives to its matrix kernel: [1, m, n, k] from [1, m, (n), k] and [(1), (m), n, k].
        let mut left = tracker(&[1, a.base[0], a.base[1]]);
        if a.view[0] == Some(1) {
            left.permute(&[0, 2, 1]);
        }
        left.expand(2, expression(n));
        let mut right = tracker(&[b.base[0], b.base[1]]);
        if b.view[0] == Some(1) {
            right.permute(&[1, 0]);
        }
        right.expand(0, expression(m));
        right.expand(0, expression(1));
        let both = self.binary_node(Binary::Mul, (a.node, left), (b.node, right), &[m, n, k]);
        self.elements = self.elements.saturating_sub(m * n * k); // never made: the matrix kernel takes both operations
        self.count(&[m, n]);
        let node = self.node(op::SumReduce(3), &[(both, tracker(&[1, m, n, k]))]);
        Array::dense(node, &[m, n])
    }

    /// The same elements, stored as the dims say.
    pub fn dense(&mut self, a: &Array) -> Array {
        if a.is_dense() {
            return Array::dense(a.node, &a.dims);
        }
        if let Some(repeated) = self.repeated(a) {
            return repeated;
        }
        if let Some(views) = merge(&[a]) {
            return self.copy(a.node, views[0], &a.dims);
        }
        // Too many dims for one tracker. Bring the base dims into the order of the view one at a time, each as a
        // transposition of four dims, then repeat elements one dim at a time.
        let wanted: Vec<usize> = a.view.iter().flatten().copied().collect();
        let mut order: Vec<usize> = (0..a.base.len()).collect();
        let mut node = a.node;
        for (i, base) in wanted.iter().enumerate() {
            let j = order.iter().position(|o| o == base).expect("compiler bug: a view uses a dim twice");
            if j != i {
                let sizes: Vec<usize> = order.iter().map(|o| a.base[*o]).collect();
                let size = |range: Range<usize>| sizes[range].iter().product::<usize>();
                let mut view = tracker(&[size(0..i), size(i..j), sizes[j], size(j + 1..sizes.len())]);
                view.permute(&[0, 2, 1, 3]);
                node = self.copy(node, view, &a.base).node;
                order.remove(j);
                order.insert(i, *base);
            }
        }
        let mut dims: Vec<usize> = wanted.iter().map(|b| a.base[*b]).collect();
        for (axis, n) in a.dims.iter().enumerate().filter(|(axis, _)| a.view[*axis].is_none()) {
            let (front, back) = (dims[..axis].iter().product(), dims[axis..].iter().product());
            let mut view = tracker(&[front, back]);
            view.expand(1, expression(*n));
            dims.insert(axis, *n);
            node = self.copy(node, view, &dims).node;
        }
        Array::dense(node, &dims)
    }

    /// Dense data that are repeated as a whole, element by element, or both, are products with ones.
    fn repeated(&mut self, a: &Array) -> Option<Array> {
        let groups = groups(&[a]);
        let is_real: Vec<bool> = groups.iter().map(|g| a.view[g[0]].is_some()).collect();
        let n = a.stored();
        let size = |group: &[usize]| group.iter().map(|axis| a.dims[*axis]).product::<usize>();
        let (whole, each) = match is_real[..] {
            [false, true] => (size(&groups[0]), 1),
            [true, false] => (1, size(&groups[1])),
            [false, true, false] => (size(&groups[0]), size(&groups[2])),
            _ => return None,
        };
        let mut node = a.node;
        if each > 1 {
            let ones = self.ones(each, [each, 1]);
            node = self.product(&Array::dense(node, &[n, 1]), &ones).node;
        }
        if whole > 1 {
            let ones = self.ones(whole, [whole, 1]);
            node = self.product(&ones, &Array::dense(node, &[n * each, 1])).node;
        }
        Some(Array::dense(node, &a.dims))
    }

    /// Marks an array as a result.
    pub fn keep(&mut self, a: &Array) -> Kept {
        let a = self.dense(a);
        self.graph.keep_tensors(a.node);
        self.kept.push(a.node);
        Kept(self.kept.len() - 1)
    }

    /// Runs the graph.
    pub fn execute(mut self) -> Result<Results, LowerError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        self.compile();
        self.graph.execute();
        Ok(Results { graph: self.graph, kept: self.kept })
    }

    fn compile(&mut self) {
        self.remove_unused();
        let kept: Vec<&mut NodeIndex> = self.kept.iter_mut().collect();
        self.graph.compile(BatchMatMul2DCompiler, kept);
    }

    /// Luminal runs every node, also those that no result needs.
    fn remove_unused(&mut self) {
        let mut needed = std::collections::BTreeSet::new();
        let mut open = self.kept.clone();
        while let Some(node) = open.pop() {
            if needed.insert(node) {
                open.extend(self.graph.graph.neighbors_directed(node, Direction::Incoming));
            }
        }
        self.graph.graph.retain_nodes(|_, node| needed.contains(&node));
        self.graph.tensors.retain(|(node, _), _| needed.contains(node));
    }

    /// Two dims whose data are two dims as well, in either order.
    fn matrix(&mut self, a: &Array) -> Array {
        assert_eq!(a.dims.len(), 2, "compiler bug: a product of arrays that are no matrices");
        let straight = a.view == [Some(0), Some(1)] || a.view == [Some(1), Some(0)];
        if straight && a.base.len() == 2 { a.clone() } else { self.dense(a) }
    }

    fn binary_node(
        &mut self,
        f: Binary,
        a: (NodeIndex, ShapeTracker),
        b: (NodeIndex, ShapeTracker),
        dims: &[usize],
    ) -> NodeIndex {
        self.count(dims);
        match f {
            Binary::Add => self.node(op::Add, &[a, b]),
            Binary::Mul => self.node(op::Mul, &[a, b]),
            Binary::Mod => self.node(op::Mod, &[a, b]),
            Binary::LessThan => self.node(op::LessThan, &[a, b]),
        }
    }

    fn copy(&mut self, node: NodeIndex, view: ShapeTracker, dims: &[usize]) -> Array {
        self.count(dims);
        Array::dense(self.node(op::Contiguous, &[(node, view)]), dims)
    }

    fn node<O: Operator + 'static>(&mut self, op: O, inputs: &[(NodeIndex, ShapeTracker)]) -> NodeIndex {
        let mut new = self.graph.add_op(op);
        for (node, view) in inputs {
            new = new.input(*node, 0, *view);
        }
        new.finish()
    }

    /// Notes the size of a new array, and an error if luminal could not count it.
    fn count(&mut self, dims: &[usize]) {
        assert!(dims.iter().all(|n| *n > 0), "compiler bug: an empty array {dims:?} in the primitive graph");
        let elements = dims.iter().fold(1usize, |n, d| n.saturating_mul(*d));
        self.elements = self.elements.saturating_add(elements);
        if elements > MAX_ELEMENTS && self.error.is_none() {
            self.error = Some(LowerError::User(format!(
                "the reference backend cannot hold an array of {dims:?}: expected fewer than 2^31 elements; it is for \
                 tiny shapes, use `--backend cpu`"
            )));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes whose printed form starts with `name`.
    fn nodes(p: &Primitives, name: &str) -> usize {
        p.graph.graph.node_weights().filter(|op| format!("{op:?}").starts_with(name)).count()
    }

    #[test]
    fn products_reach_the_matrix_kernel() {
        for (m, k, n) in [(2, 3, 4), (1, 1, 1), (1, 3, 1), (3, 1, 2), (3, 3, 3)] {
            for turned in [false, true] {
                let mut p = Primitives::new();
                let (left, right) = ((0..m * k).map(|i| i as f32), (0..n * k).map(|i| 1.0 - i as f32));
                let mut a = p.data(left.collect(), &[m, k]);
                let mut b = p.data(right.collect(), &[n, k]);
                if turned {
                    // The same data as [k, m] and [k, n].
                    a = Array::dense(a.node, &[k, m]).permute(&[1, 0]);
                    b = Array::dense(b.node, &[k, n]).permute(&[1, 0]);
                }
                let y = p.product(&a, &b);
                let kept = p.keep(&y);
                p.compile();
                assert_eq!(nodes(&p, "BatchedMatMul2D"), 1, "{m} {k} {n}");
                assert_eq!(nodes(&p, "Mul") + nodes(&p, "SumReduce"), 0, "{m} {k} {n}");
                let found = p.execute().unwrap().take(kept).unwrap();
                let at = |row: usize, c: usize, rows: usize| if turned { c * rows + row } else { row * k + c };
                for i in 0..m {
                    for j in 0..n {
                        let e: f32 = (0..k).map(|c| at(i, c, m) as f32 * (1.0 - at(j, c, n) as f32)).sum();
                        assert_eq!(found[i * n + j], e, "{m} {k} {n} at {i} {j}");
                    }
                }
            }
        }
    }

    #[test]
    fn nodes_that_no_result_needs_are_removed() {
        let mut p = Primitives::new();
        let a = p.data(vec![1.0, 2.0], &[2]);
        let b = p.unary(Unary::Recip, &a);
        let unused = p.unary(Unary::Sqrt, &b);
        p.unary(Unary::Sqrt, &unused);
        let kept = p.keep(&b);
        p.compile();
        assert_eq!(nodes(&p, "Sqrt"), 0);
        assert_eq!(p.execute().unwrap().take(kept).unwrap(), [1.0, 0.5]);
    }

    #[test]
    fn arrays_that_luminal_cannot_count_are_an_error() {
        let mut p = Primitives::new();
        let a = p.number(1.0).expand(0, 1 << 16).expand(0, 1 << 16);
        let a = p.dense(&a);
        p.keep(&a);
        assert!(matches!(p.execute(), Err(LowerError::User(m)) if m.contains("2^31")));
    }
}
