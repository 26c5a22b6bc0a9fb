//! Reduce, Argmax and Fold.
//!
//! Sums are kept in f64: a loss over thousands of tokens is as good as its terms. Long sums are cut into fixed pieces that
//! are added in order.

use super::context::Context;
use super::parallel::{CHUNK, each, pieces, simd};
use super::scratch::Room;
use super::view::{Elements, View};
use crate::ir::op::ReduceOp;
use crate::lower::LowerError;
use crate::plan::shape::outer_block;
use crate::plan::{Step, Stored};

/// Columns that one task of a column sum takes.
const COLUMNS: usize = 64;

/// Reduction of every block over some axes.
pub fn reduce(cx: &Context, step: &Step, op: ReduceOp, axes: &[usize]) -> Result<(), LowerError> {
    if as_it_lies(cx, step, op, axes) {
        reduce_parts(cx, step, op, axes);
    } else {
        cx.in_f32(step, || reduce_parts(cx, step, op, axes));
    }
    Ok(())
}

/// True if the input is read as it lies: in f32, or column sums in bf16.
fn as_it_lies(cx: &Context, step: &Step, op: ReduceOp, axes: &[usize]) -> bool {
    let sums = matches!(op, ReduceOp::Sum | ReduceOp::Mean);
    let x = cx.view(step.inputs[0]);
    let in_columns = (0..x.shape.blocks).all(|block| Part::new(&x, block, axes).columns());
    let (from, to) = (x.stored, cx.stored(step.outputs[0]));
    (from, to) == (Stored::F32, Stored::F32) || (sums && in_columns && to == Stored::F32)
}

/// What [`reduce`] takes on the side.
pub fn room(cx: &Context, step: &Step, op: ReduceOp, axes: &[usize]) -> Room {
    if as_it_lies(cx, step, op, axes) { Room::default() } else { cx.wide_room(&step.inputs, &step.outputs) }
}

fn reduce_parts(cx: &Context, step: &Step, op: ReduceOp, axes: &[usize]) {
    let x = cx.view(step.inputs[0]);
    let out = cx.shape(step.outputs[0]);
    let place = cx.shared(step, 0);
    let sums = matches!(op, ReduceOp::Sum | ReduceOp::Mean);
    let parts: Vec<Part> = (0..x.shape.blocks).map(|block| Part::new(&x, block, axes)).collect();
    if let ([part], true) = (parts.as_slice(), sums && out.total() == 1 && x.stored == Stored::F32) {
        let count = part.count();
        let total = long_sum(part, count);
        let value = if op == ReduceOp::Mean { total / count as f64 } else { total };
        if cx.is_number(step.outputs[0]) {
            cx.set_number(step, value);
        } else {
            cx.output(step, 0)[0] = value as f32;
        }
        return;
    }
    let mut tasks = vec![]; // (block, first result, last result)
    for (block, part) in parts.iter().enumerate() {
        let columns = sums && part.columns();
        let size = if columns { COLUMNS } else { (CHUNK / part.count().max(1)).max(1) };
        let kept = out.size(block);
        tasks.extend((0..kept).step_by(size).map(|from| (block, columns, from, (from + size).min(kept))));
    }
    each(tasks.len(), |t| {
        let (block, columns, from, to) = tasks[t];
        let (part, count) = (&parts[block], parts[block].count());
        // SAFETY: tasks have results of their own.
        let y = unsafe { place.part(out.start(block) + from, to - from) };
        if columns {
            let (rows, stride) = part.gone[0];
            let divisor = if op == ReduceOp::Mean { count as f64 } else { 1.0 };
            match part.data {
                Elements::F32(x) => column_sums(x.wrapping_add(from), rows, stride, divisor, y),
                Elements::Bf16(x) => column_sums_bf16(x.wrapping_add(from), rows, stride, divisor, y),
            }
        } else {
            y.iter_mut().enumerate().for_each(|(i, y)| *y = one(part, from + i, count, op));
        }
    });
}

/// A block whose dims are sorted into those that stay and those that go, as (extent, stride).
struct Part {
    data: Elements,
    kept: Vec<(usize, usize)>,
    gone: Vec<(usize, usize)>,
}

// SAFETY: only read, and the plan keeps the storage unchanged.
unsafe impl Sync for Part {}

impl Part {
    fn new(x: &View, block: usize, axes: &[usize]) -> Part {
        let (dims, strides) = (x.shape.dims(block), x.strides(block));
        let mut part = Part { data: x.elements(block), kept: vec![], gone: vec![] };
        for d in 0..dims.len() {
            let list = if axes.contains(&d) { &mut part.gone } else { &mut part.kept };
            match list.last_mut() {
                Some(last) if last.1 == strides[d] * dims[d] => *last = (last.0 * dims[d], strides[d]),
                _ => list.push((dims[d], strides[d])),
            }
        }
        part
    }

    /// Elements that one result is made of.
    fn count(&self) -> usize {
        self.gone.iter().map(|d| d.0).product()
    }

    /// True if the results lie side by side in every row that is added.
    fn columns(&self) -> bool {
        self.kept.len() == 1 && self.kept[0].1 == 1 && self.gone.len() == 1
    }
}

/// The place of element `index` of nested dims.
fn place(dims: &[(usize, usize)], mut index: usize) -> usize {
    let mut at = 0;
    for (extent, stride) in dims.iter().rev() {
        at += index % extent * stride;
        index /= extent;
    }
    at
}

fn long_sum(part: &Part, count: usize) -> f64 {
    let n = count.div_ceil(CHUNK);
    let sums: Vec<std::sync::atomic::AtomicU64> = (0..n).map(|_| 0.into()).collect();
    each(n, |t| {
        let (from, to) = (t * CHUNK, ((t + 1) * CHUNK).min(count));
        let total: f64 = match part.gone.as_slice() {
            // SAFETY: inside the view.
            [(_, 1)] => sum_f64(unsafe { std::slice::from_raw_parts(part.data.f32().add(from), to - from) }),
            gone => (from..to).map(|i| f64::from(unsafe { *part.data.f32().add(place(gone, i)) })).sum(),
        };
        sums[t].store(total.to_bits(), std::sync::atomic::Ordering::Relaxed);
    });
    sums.into_iter().map(|s| f64::from_bits(s.into_inner())).sum()
}

simd! {
    /// The sum of a row in eight lanes.
    fn sum_f64(x: &[f32]) -> f64 { <FMA>
        let _ = FMA;
        let mut lanes = [0.0f64; 8];
        let whole = x.chunks_exact(8);
        for (lane, v) in lanes.iter_mut().zip(whole.remainder()) {
            *lane += f64::from(*v);
        }
        for part in whole {
            for i in 0..8 {
                lanes[i] += f64::from(part[i]);
            }
        }
        lanes.iter().sum()
    }
}

simd! {
    /// Sums over rows of up to COLUMNS columns, divided.
    fn column_sums(x: *const f32, rows: usize, stride: usize, divisor: f64, y: &mut [f32]) { <FMA>
        let _ = FMA;
        let mut sums = [0.0f64; COLUMNS];
        for row in 0..rows {
            // SAFETY: the caller's view holds so many rows and columns.
            let x = unsafe { std::slice::from_raw_parts(x.wrapping_add(row * stride), y.len()) };
            if let Ok(x) = <&[f32; COLUMNS]>::try_from(x) {
                for i in 0..COLUMNS {
                    sums[i] += f64::from(x[i]);
                }
            } else {
                sums.iter_mut().zip(x).for_each(|(s, x)| *s += f64::from(*x));
            }
        }
        y.iter_mut().zip(sums).for_each(|(y, s)| *y = (s / divisor) as f32);
    }
}

simd! {
    /// The same of bf16.
    fn column_sums_bf16(x: *const u16, rows: usize, stride: usize, divisor: f64, y: &mut [f32]) { <FMA>
        let _ = FMA;
        let mut sums = [0.0f64; COLUMNS];
        let wide = |x: u16| f64::from(f32::from_bits(u32::from(x) << 16));
        for row in 0..rows {
            // SAFETY: the caller's view holds so many rows and columns.
            let x = unsafe { std::slice::from_raw_parts(x.wrapping_add(row * stride), y.len()) };
            if let Ok(x) = <&[u16; COLUMNS]>::try_from(x) {
                for i in 0..COLUMNS {
                    sums[i] += wide(x[i]);
                }
            } else {
                sums.iter_mut().zip(x).for_each(|(s, x)| *s += wide(*x));
            }
        }
        y.iter_mut().zip(sums).for_each(|(y, s)| *y = (s / divisor) as f32);
    }
}

fn one(part: &Part, index: usize, count: usize, op: ReduceOp) -> f32 {
    // SAFETY: inside the view.
    let first = unsafe { part.data.f32().add(place(&part.kept, index)) };
    let contiguous = matches!(part.gone.as_slice(), [(_, 1)]);
    if contiguous && matches!(op, ReduceOp::Sum | ReduceOp::Mean) {
        let sum = sum_f64(unsafe { std::slice::from_raw_parts(first, count) });
        return if op == ReduceOp::Mean { (sum / count as f64) as f32 } else { sum as f32 };
    }
    let values = (0..count).map(|i| unsafe { *first.add(place(&part.gone, i)) });
    let truth = |b: bool| f32::from(u8::from(b));
    match op {
        ReduceOp::Sum => values.map(f64::from).sum::<f64>() as f32,
        ReduceOp::Mean => (values.map(f64::from).sum::<f64>() / count as f64) as f32,
        ReduceOp::Max => values.fold(f32::NEG_INFINITY, |a, b| if b > a || b.is_nan() { b } else { a }),
        ReduceOp::Min => values.fold(f32::INFINITY, |a, b| if b < a || b.is_nan() { b } else { a }),
        ReduceOp::Any => truth(values.into_iter().any(|v| v != 0.0)),
        ReduceOp::All => truth(values.into_iter().all(|v| v != 0.0)),
        ReduceOp::Count => values.filter(|v| *v != 0.0).count() as f32,
    }
}

/// Position of the first largest element along an axis.
pub fn argmax(cx: &Context, step: &Step, axis: usize) -> Result<(), LowerError> {
    let x = cx.view(step.inputs[0]);
    let out = cx.shape(step.outputs[0]);
    let y = cx.output(step, 0);
    for block in 0..x.shape.blocks {
        let part = Part::new(&x, block, &[axis]);
        let count = x.shape.dims(block)[axis];
        for i in 0..out.size(block) {
            let first = place(&part.kept, i);
            // SAFETY: inside the view.
            let value = |j: usize| unsafe { *part.data.f32().add(first + place(&part.gone, j)) };
            let best = (1..count).fold(0, |best, j| if value(j) > value(best) { j } else { best });
            y[out.start(block) + i] = best as f32;
        }
    }
    Ok(())
}

/// Blocks added into the smaller outer of the result.
pub fn fold(cx: &Context, step: &Step, mean: bool) -> Result<(), LowerError> {
    let x = cx.input(step, 0);
    let (from, to) = (cx.ty(step.inputs[0]).outer, cx.ty(step.outputs[0]).outer);
    let (shape, out) = (cx.shape(step.inputs[0]), cx.shape(step.outputs[0]));
    let (clips, place) = (cx.clips(), cx.shared(step, 0));
    for block in 0..out.blocks {
        let members: Vec<usize> =
            (0..shape.blocks).filter(|&b| outer_block(from, to, b, clips) == block).map(|b| shape.start(b)).collect();
        let divisor = if mean { members.len().max(1) as f64 } else { 1.0 };
        if cx.is_number(step.outputs[0]) {
            cx.set_number(step, members.iter().map(|m| f64::from(x[*m])).sum::<f64>() / divisor);
            continue;
        }
        pieces(out.size(block), CHUNK / 16, |from, to| {
            // SAFETY: pieces do not overlap.
            let y = unsafe { place.part(out.start(block) + from, to - from) };
            let mut sums = vec![0.0f64; y.len()];
            for member in &members {
                let x = &x[member + from..member + to];
                sums.iter_mut().zip(x).for_each(|(s, x)| *s += f64::from(*x));
            }
            y.iter_mut().zip(sums).for_each(|(y, s)| *y = (s / divisor) as f32);
        });
    }
    Ok(())
}
