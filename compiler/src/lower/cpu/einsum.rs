//! Sums of products as matrix products.
//!
//! Labels fall into four groups: in both inputs and the result (batch), in a and the result (m), in b and the result (n),
//! in both inputs alone (k); labels of one input alone are summed first. A block is then a batch of products
//! [m, k] x [k, n]; where the dims of a group do not lie on one stride, the operand is copied into order first.
//!
//! Rows of all blocks lie one after another, so two forms are one product for the whole step: rows times a weight
//! (x w: the block's rows become rows) and rows times rows summed over all blocks (a weight's gradient).

use super::context::Context;
use super::matmul::{self, Factor, Matrix, Out, Product, product};
use super::parallel::scratch;
use super::scratch::Room;
use super::view::{View, dense_strides};
use crate::ir::graph::Outer;
use crate::lower::LowerError;
use crate::plan::shape::outer_block;
use crate::plan::{Step, Stored};

/// Labels of inputs and result.
pub struct Labels<'a> {
    /// Of the first input.
    pub a: &'a [u8],
    /// Of the second.
    pub b: &'a [u8],
    /// Of the result.
    pub out: &'a [u8],
}

/// Labels by what becomes of them.
struct Groups {
    batch: Vec<u8>,
    m: Vec<u8>,
    n: Vec<u8>,
    k: Vec<u8>,
    a_alone: Vec<u8>,
    b_alone: Vec<u8>,
}

impl Groups {
    fn new(l: &Labels) -> Groups {
        let of = |from: &[u8], in_a: bool, in_b: bool, in_out: bool| -> Vec<u8> {
            let fits = |c: &u8| (l.a.contains(c), l.b.contains(c), l.out.contains(c)) == (in_a, in_b, in_out);
            from.iter().copied().filter(fits).collect()
        };
        Groups {
            batch: of(l.out, true, true, true),
            m: of(l.out, true, false, true),
            n: of(l.out, false, true, true),
            k: of(l.a, true, true, false),
            a_alone: of(l.a, true, false, false),
            b_alone: of(l.b, false, true, false),
        }
    }
}

/// A block of an operand: where it is, and an extent and a stride a label.
struct Operand<'a> {
    data: *const f32,
    labels: &'a [u8],
    dims: Vec<usize>,
    strides: Vec<usize>,
}

impl<'a> Operand<'a> {
    /// A block of a view; without its place, a view in bf16 does too.
    fn of(view: &View, block: usize, labels: &'a [u8], placed: bool) -> Operand<'a> {
        let data = if placed { view.at(block) } else { std::ptr::null() };
        Operand { data, labels, dims: view.shape.dims(block).to_vec(), strides: view.strides(block).to_vec() }
    }

    fn group(&self, labels: &[u8]) -> Vec<(usize, usize)> {
        let place = |l: &u8| self.labels.iter().position(|m| m == l).expect("compiler bug: a label of another operand");
        labels.iter().map(|l| (self.dims[place(l)], self.strides[place(l)])).collect()
    }
}

/// One stride for a group of dims, if there is one.
fn one_stride(group: &[(usize, usize)]) -> Option<usize> {
    let group: Vec<_> = group.iter().filter(|d| d.0 != 1).collect();
    let even = group.windows(2).all(|w| w[0].1 == w[1].1 * w[1].0);
    even.then(|| group.last().map_or(0, |d| d.1))
}

fn count(group: &[(usize, usize)]) -> usize {
    group.iter().map(|d| d.0).product()
}

/// A sum of products.
pub fn einsum(cx: &Context, step: &Step, l: &Labels) -> Result<(), LowerError> {
    let groups = Groups::new(l);
    match whole_step(cx, step, l, &groups) {
        // SAFETY: operands and result are dense, with n a row of the result.
        Some(p) => unsafe { product(&p, cx.shared(step, 0).out(0, p.n), &|_| {}) },
        None => cx.in_f32(step, || by_block(cx, step, l, &groups)),
    }
    Ok(())
}

/// What [`einsum`] takes on the side.
pub fn room(cx: &Context, step: &Step, l: &Labels) -> Room {
    let groups = Groups::new(l);
    if let Some(p) = whole_step(cx, step, l, &groups) {
        return matmul::room(&p, cx.stored(step.outputs[0]));
    }
    let (a, b, out) = (cx.view(step.inputs[0]), cx.view(step.inputs[1]), cx.shape(step.outputs[0]));
    let mut most = Room::default();
    for [ab, bb, ob] in blocks(cx, step) {
        let (a, b) = (Operand::of(&a, ab, l.a, false), Operand::of(&b, bb, l.b, false));
        most = most.or(block_room(&groups, &a, &b, l.out, out.dims(ob)));
    }
    cx.wide_room(&step.inputs, &step.outputs).and(most)
}

/// Blocks of the inputs and of the result that go together.
fn blocks(cx: &Context, step: &Step) -> impl Iterator<Item = [usize; 3]> + use<> {
    let values = [step.inputs[0], step.inputs[1], step.outputs[0]];
    let outers = values.map(|v| cx.ty(v).outer);
    let number = values.map(|v| cx.shape(v).blocks).into_iter().max().unwrap_or(0);
    let (larger, clips) = (outers.into_iter().max().unwrap_or(Outer::One), cx.clips());
    (0..number).map(move |block| outers.map(|o| outer_block(larger, o, block, clips)))
}

/// Products of one block after another.
fn by_block(cx: &Context, step: &Step, l: &Labels, groups: &Groups) {
    let (a, b, out) = (cx.view(step.inputs[0]), cx.view(step.inputs[1]), cx.shape(step.outputs[0]));
    let y = cx.output(step, 0);
    let mut written = vec![false; out.blocks];
    for [ab, bb, ob] in blocks(cx, step) {
        let part = &mut y[out.start(ob)..out.start(ob) + out.size(ob)];
        let add = std::mem::replace(&mut written[ob], true);
        let (a, b) = (Operand::of(&a, ab, l.a, true), Operand::of(&b, bb, l.b, true));
        block_products(groups, &a, &b, l.out, out.dims(ob), part, add);
    }
    for block in (0..out.blocks).filter(|&b| !written[b]) {
        y[out.start(block)..out.start(block) + out.size(block)].fill(0.0);
    }
}

/// The two forms that are one product for all blocks, into a dense result; none if this is neither.
fn whole_step(cx: &Context, step: &Step, l: &Labels, groups: &Groups) -> Option<Product> {
    if !groups.a_alone.is_empty() || !groups.b_alone.is_empty() || !groups.batch.is_empty() {
        return None;
    }
    let (va, vb) = (step.inputs[0], step.inputs[1]);
    let (a, b) = (cx.view(va), cx.view(vb));
    let (ao, bo, oo) = (cx.ty(va).outer, cx.ty(vb).outer, cx.ty(step.outputs[0]).outer);
    if ao != Outer::One && bo == Outer::One && oo == ao && a.dense && b.shape.blocks == 1 {
        // Rows times a weight: a = [m.., k..], out = [m.., n..].
        let m = groups.m.len();
        let leads = l.a[..m] == groups.m && l.out[..m] == groups.m && l.a[m..] == groups.k && l.out[m..] == groups.n;
        let (dims, strides) = (b.shape.dims(0).to_vec(), b.strides(0).to_vec());
        let weight = Operand { data: std::ptr::null(), labels: l.b, dims, strides };
        let (bk, bn) = (weight.group(&groups.k), weight.group(&groups.n));
        let (Some(row), Some(col), true) = (one_stride(&bk), one_stride(&bn), leads) else { return None };
        let (k, n) = (count(&bk), count(&bn));
        if k == 0 || n == 0 {
            return None;
        }
        let m = cx.shape(step.outputs[0]).total() / n;
        return Some(Product { a: a.factor(0, 0, k, 1), b: b.factor(0, 0, row, col), m, n, k, add: false });
    }
    if oo == Outer::One && ao == bo && ao != Outer::One && a.dense && b.dense {
        // Rows times rows, summed over rows: a = [k.., m..], b = [k.., n..], out = [m.., n..] or [n.., m..].
        let k = groups.k.len();
        let leads = l.a[..k] == groups.k && l.b[..k] == groups.k && l.a[k..] == groups.m && l.b[k..] == groups.n;
        let straight: Vec<u8> = groups.m.iter().chain(&groups.n).copied().collect();
        let crossed: Vec<u8> = groups.n.iter().chain(&groups.m).copied().collect();
        if !leads || (l.out != straight && l.out != crossed) || a.shape.blocks == 0 {
            return None;
        }
        let m: usize = a.shape.dims(0)[k..].iter().product();
        let n: usize = b.shape.dims(0)[k..].iter().product();
        if m == 0 || n == 0 {
            return None;
        }
        let rows = a.shape.total() / m;
        let (left, right, m, n) = if l.out == straight { (&a, &b, m, n) } else { (&b, &a, n, m) };
        return Some(Product { a: left.factor(0, 0, 1, m), b: right.factor(0, 0, n, 1), m, n, k: rows, add: false });
    }
    None
}

/// All products of a block, into its part of the result.
fn block_products(groups: &Groups, a: &Operand, b: &Operand, out: &[u8], out_dims: &[usize], y: &mut [f32], add: bool) {
    let (m, k) = (a.group(&groups.m), a.group(&groups.k));
    let n = b.group(&groups.n);
    let batch = a.group(&groups.batch);
    let [cm, cn, ck, cb] = [&m, &n, &k, &batch].map(|g| count(g));
    with_order(a, [&groups.batch, &groups.m, &groups.k], &groups.a_alone, |a, am, ak| {
        with_order(b, [&groups.batch, &groups.k, &groups.n], &groups.b_alone, |b, bk, bn| {
            let whole: Vec<u8> = groups.batch.iter().chain(&groups.m).chain(&groups.n).copied().collect();
            let result =
                Operand { data: y.as_ptr(), labels: out, dims: out_dims.to_vec(), strides: dense_strides(out_dims) };
            let places = |operand: &Operand| nested(&operand.group(&groups.batch));
            let (pa, pb, po) = (places(a), places(b), places(&result));
            let one = |i: usize| Product {
                a: Factor::F32(Matrix { data: a.data.wrapping_add(pa[i]), row: am, col: ak }),
                b: Factor::F32(Matrix { data: b.data.wrapping_add(pb[i]), row: bk, col: bn }),
                m: cm,
                n: cn,
                k: ck,
                add: false,
            };
            if let Some(row) = direct(&result, groups, cm, cn) {
                for i in 0..cb {
                    // SAFETY: the result's block holds [batch, m, n] at these strides.
                    unsafe { product(&Product { add, ..one(i) }, Out::f32(y.as_mut_ptr().add(po[i]), row), &|_| {}) };
                }
                return;
            }
            scratch(cb * cm * cn, |room| {
                for i in 0..cb {
                    // SAFETY: room for [batch, m, n].
                    unsafe { product(&one(i), Out::f32(room.as_mut_ptr().add(i * cm * cn), cn), &|_| {}) };
                }
                let at = nested(&result.group(&whole));
                for (value, at) in room.iter().zip(at) {
                    y[at] = if add { y[at] + value } else { *value };
                }
            });
        });
    });
}

/// What [`block_products`] takes on the side: operands and result in order, and one product after another.
fn block_room(groups: &Groups, a: &Operand, b: &Operand, out: &[u8], out_dims: &[usize]) -> Room {
    let (m, k, n) = (a.group(&groups.m), a.group(&groups.k), b.group(&groups.n));
    let [cm, cn, ck, cb] = [&m, &n, &k, &a.group(&groups.batch)].map(|g| count(g));
    let (a_copy, am, ak) = order_room(a, [&groups.batch, &groups.m, &groups.k], &groups.a_alone);
    let (b_copy, bk, bn) = order_room(b, [&groups.batch, &groups.k, &groups.n], &groups.b_alone);
    let result =
        Operand { data: std::ptr::null(), labels: out, dims: out_dims.to_vec(), strides: dense_strides(out_dims) };
    let copy = if direct(&result, groups, cm, cn).is_some() { 0 } else { cb * cm * cn };
    let factor = |row, col| Factor::F32(Matrix { data: std::ptr::null(), row, col });
    let one = Product { a: factor(am, ak), b: factor(bk, bn), m: cm, n: cn, k: ck, add: false };
    Room::shared(&[a_copy, b_copy, copy]).and(matmul::room(&one, Stored::F32))
}

/// The distance of rows, if products can be written where they belong.
fn direct(result: &Operand, groups: &Groups, m: usize, n: usize) -> Option<usize> {
    let (om, on) = (one_stride(&result.group(&groups.m)), one_stride(&result.group(&groups.n)));
    let row = if m <= 1 { n } else { om.unwrap_or(0) };
    ((n <= 1 || on == Some(1)) && om.is_some() && row >= n).then_some(row)
}

/// What [`with_order`] takes on the side, and the strides that it hands on.
fn order_room(operand: &Operand, groups: [&[u8]; 3], alone: &[u8]) -> (usize, usize, usize) {
    if let Some((first, second)) = lies_in_order(operand, groups, alone) {
        return (0, first, second);
    }
    let labels: Vec<u8> = groups.concat();
    let dims: Vec<usize> = operand.group(&labels).iter().map(|d| d.0).collect();
    let size = dims.iter().product();
    let ordered = Operand { data: std::ptr::null(), labels: &labels, strides: dense_strides(&dims), dims };
    let stride = |group| one_stride(&ordered.group(group)).unwrap_or(0);
    (size, stride(groups[1]), stride(groups[2]))
}

/// The strides of the second and the third group, if each lies on one.
fn lies_in_order(operand: &Operand, groups: [&[u8]; 3], alone: &[u8]) -> Option<(usize, usize)> {
    let parts = groups.map(|g| operand.group(g));
    one_stride(&parts[1]).zip(one_stride(&parts[2])).filter(|_| alone.is_empty())
}

/// Hands on an operand whose second and third group each lie on one stride: itself, or a copy in the order of the groups
/// in which labels that nobody else has are summed.
fn with_order(operand: &Operand, groups: [&[u8]; 3], alone: &[u8], then: impl FnOnce(&Operand, usize, usize)) {
    if let Some((first, second)) = lies_in_order(operand, groups, alone) {
        then(operand, first, second);
        return;
    }
    let labels: Vec<u8> = groups.concat();
    let group = operand.group(&labels);
    let dims: Vec<usize> = group.iter().map(|d| d.0).collect();
    let extra = nested(&operand.group(alone));
    scratch(count(&group), |room| {
        for (y, at) in room.iter_mut().zip(nested(&group)) {
            // SAFETY: inside the operand's view.
            *y = extra.iter().map(|e| unsafe { *operand.data.add(at + e) }).sum();
        }
        let strides = dense_strides(&dims);
        let ordered = Operand { data: room.as_ptr(), labels: &labels, dims, strides };
        let (first, second) = (ordered.group(groups[1]), ordered.group(groups[2]));
        then(&ordered, one_stride(&first).unwrap_or(0), one_stride(&second).unwrap_or(0));
    });
}

/// The places of all elements of nested dims, row-major.
fn nested(dims: &[(usize, usize)]) -> Vec<usize> {
    let mut places = vec![0];
    for (extent, stride) in dims {
        places = places.iter().flat_map(|p| (0..*extent).map(move |i| p + i * stride)).collect();
    }
    places
}
