//! Unary, Binary, Select, Cast, and copies out of strided views.
//!
//! Values without dims are numbers: they are computed in f64, so that 1 - 0.999 is not 0.00100004.

use super::context::Context;
use super::math;
use super::nest::rows;
use super::parallel::{CHUNK, pieces, scratch};
use super::place::{Shared, Source};
use super::scratch::Room;
use super::view::{View, dense_strides};
use crate::ir::op::{BinaryOp, DType, Op, UnaryOp};
use crate::lower::LowerError;
use crate::plan::{Step, Stored};

/// A view of result 0 of a step, for the nests.
pub fn output_view(cx: &Context, step: &Step) -> (View, Shared) {
    (cx.view(step.outputs[0]), cx.shared(step, 0))
}

/// Function of one input.
pub fn unary(cx: &Context, step: &Step, op: UnaryOp) -> Result<(), LowerError> {
    if cx.is_number(step.inputs[0]) {
        cx.set_number(step, round_to(cx.ty(step.outputs[0]).dtype, unary_number(op, cx.number(step.inputs[0]))));
        return Ok(());
    }
    match op {
        UnaryOp::Neg => map(cx, step, |x| -x),
        UnaryOp::Exp => map_rows(cx, step, math::exp_row),
        UnaryOp::Log => map(cx, step, f32::ln),
        UnaryOp::Sqrt => map(cx, step, f32::sqrt),
        UnaryOp::Abs => map(cx, step, f32::abs),
        UnaryOp::Sin => map(cx, step, f32::sin),
        UnaryOp::Cos => map(cx, step, f32::cos),
        UnaryOp::Tanh => map(cx, step, f32::tanh),
        UnaryOp::Erf => map_rows(cx, step, math::erf_row),
        UnaryOp::Floor => map(cx, step, f32::floor),
        UnaryOp::Ceil => map(cx, step, f32::ceil),
        UnaryOp::Round => map(cx, step, f32::round_ties_even),
        UnaryOp::Sign => map(cx, step, |x| if x == 0.0 { 0.0 } else { x.signum() }),
        UnaryOp::Not => map(cx, step, |x| f32::from(u8::from(x == 0.0))),
    }
    Ok(())
}

/// Function of two inputs.
pub fn binary(cx: &Context, step: &Step, op: BinaryOp) -> Result<(), LowerError> {
    let whole = cx.ty(step.inputs[0]).dtype == DType::I32;
    if cx.is_number(step.inputs[0]) && cx.is_number(step.inputs[1]) {
        let number = binary_number(op, whole, cx.number(step.inputs[0]), cx.number(step.inputs[1]));
        cx.set_number(step, round_to(cx.ty(step.outputs[0]).dtype, number));
        return Ok(());
    }
    let truth = |b: bool| f32::from(u8::from(b));
    match op {
        BinaryOp::Add => zip(cx, step, |a, b| a + b),
        BinaryOp::Sub => zip(cx, step, |a, b| a - b),
        BinaryOp::Mul => zip(cx, step, |a, b| a * b),
        // Whole numbers divide downwards; f64, because a quotient in f32 may round up to a whole number.
        BinaryOp::Div if whole => zip(cx, step, |a, b| (f64::from(a) / f64::from(b)).floor() as f32),
        BinaryOp::Rem if whole => {
            zip(cx, step, |a, b| (f64::from(a) - (f64::from(a) / f64::from(b)).floor() * f64::from(b)) as f32)
        }
        BinaryOp::Div => zip(cx, step, |a, b| a / b),
        BinaryOp::Rem => zip(cx, step, |a, b| a - (a / b).floor() * b),
        BinaryOp::Pow => zip(cx, step, f32::powf),
        BinaryOp::Min => zip(cx, step, |a, b| if b < a { b } else { a }),
        BinaryOp::Max => zip(cx, step, |a, b| if b > a { b } else { a }),
        BinaryOp::Eq => zip(cx, step, move |a, b| truth(a == b)),
        BinaryOp::Ne => zip(cx, step, move |a, b| truth(a != b)),
        BinaryOp::Lt => zip(cx, step, move |a, b| truth(a < b)),
        BinaryOp::Le => zip(cx, step, move |a, b| truth(a <= b)),
        BinaryOp::Gt => zip(cx, step, move |a, b| truth(a > b)),
        BinaryOp::Ge => zip(cx, step, move |a, b| truth(a >= b)),
        BinaryOp::And => zip(cx, step, move |a, b| truth(a != 0.0 && b != 0.0)),
        BinaryOp::Or => zip(cx, step, move |a, b| truth(a != 0.0 || b != 0.0)),
    }
    Ok(())
}

/// Condition, value where true, value where false.
pub fn select(cx: &Context, step: &Step) -> Result<(), LowerError> {
    if step.inputs.iter().all(|&v| cx.is_number(v)) {
        let chosen = if cx.number(step.inputs[0]) != 0.0 { step.inputs[1] } else { step.inputs[2] };
        cx.set_number(step, cx.number(chosen));
        return Ok(());
    }
    cx.in_f32(step, || select_rows(cx, step));
    Ok(())
}

fn select_rows(cx: &Context, step: &Step) {
    let (c, a, b) = (cx.view(step.inputs[0]), cx.view(step.inputs[1]), cx.view(step.inputs[2]));
    let (out, place) = output_view(cx, step);
    rows([&out, &c, &a, &b], |at, by, len| {
        // SAFETY: rows of the result are disjoint; operands lie inside their views, and an element is read before the
        // result takes its place.
        unsafe {
            let y = result_pointer(&out, place, at[0]);
            for j in 0..len {
                let pick = |view: &View, i: usize| *view.data().add(at[i] + j * by[i]);
                *y.add(j) = if pick(&c, 1) != 0.0 { pick(&a, 2) } else { pick(&b, 3) };
            }
        }
    });
}

/// Change of element type.
pub fn cast(cx: &Context, step: &Step) -> Result<(), LowerError> {
    let dtype = cx.ty(step.outputs[0]).dtype;
    if cx.is_number(step.inputs[0]) {
        cx.set_number(step, round_to(dtype, cx.number(step.inputs[0])));
        return Ok(());
    }
    match dtype {
        DType::F64 | DType::F32 => map(cx, step, |x| x),
        DType::Bf16 => map(cx, step, math::bf16),
        DType::I32 => map(cx, step, f32::trunc),
        DType::Bool => map(cx, step, |x| f32::from(u8::from(x != 0.0))),
    }
    Ok(())
}

/// The input, made dense: views whose users cannot read strides. A reshape is written in the dims of its input.
pub fn copy(cx: &Context, step: &Step) -> Result<(), LowerError> {
    let x = cx.view(step.inputs[0]);
    let out = cx.shape(step.outputs[0]);
    let place = cx.shared(step, 0);
    let bases = (0..out.blocks).map(|b| out.start(b)).collect();
    let strides = (0..out.blocks).flat_map(|b| dense_strides(x.shape.dims(b))).collect();
    copy_view(&x, &View::region(place, x.shape.clone(), bases, strides), place);
    Ok(())
}

/// Writes `f(input)` for every element; the input is read in the shape of the result.
fn map(cx: &Context, step: &Step, f: impl Fn(f32) -> f32 + Sync + Send) {
    let pieces = |[x]: [&[f32]; 1], y: &mut [f32]| y.iter_mut().zip(x).for_each(|(y, x)| *y = f(*x));
    narrow_or(cx, step, pieces, || {
        let x = cx.view(step.inputs[0]);
        let (out, place) = output_view(cx, step);
        map_view(&x, &out, place, &f);
    });
}

/// Runs `piece` over pieces of operands and result if bf16 is among them and all lie alike; else `strided`, in f32.
fn narrow_or<const N: usize>(
    cx: &Context,
    step: &Step,
    piece: impl Fn([&[f32]; N], &mut [f32]) + Sync + Send,
    strided: impl FnOnce(),
) {
    if !narrow(cx, step) {
        return strided();
    }
    if !alike(cx, step) {
        return cx.in_f32(step, strided);
    }
    let operands: [Operand; N] = std::array::from_fn(|i| match step.inputs[i] {
        v if cx.is_number(v) => Operand::Number(cx.number(v) as f32),
        _ => Operand::Many(cx.source(step, i)),
    });
    let place = cx.shared(step, 0);
    pieces(place.len(), CHUNK, |from, to| {
        scratch(N * (to - from), |room| {
            let mut rooms = room.chunks_exact_mut(to - from);
            let parts: [&[f32]; N] = std::array::from_fn(|i| {
                let room = rooms.next().expect("compiler bug: a room for each operand");
                match operands[i] {
                    Operand::Number(x) => room.fill(x),
                    // SAFETY: pieces do not overlap, and the result is written when all operands are read.
                    Operand::Many(x) => unsafe { x.read(place, from, to, |x| room.copy_from_slice(x)) },
                }
                &*room
            });
            // SAFETY: as above.
            unsafe { place.write(from, to - from, |y| piece(parts, y)) };
        });
    });
}

/// True if bf16 is among operands and results.
fn narrow(cx: &Context, step: &Step) -> bool {
    step.inputs.iter().chain(&step.outputs).any(|v| cx.stored(*v) == Stored::Bf16)
}

/// True if operands lie as the result does, but for numbers.
fn alike(cx: &Context, step: &Step) -> bool {
    let shape = |v: usize| cx.plan.values[v].shape;
    let alike = |v: &usize| cx.is_number(*v) || (shape(*v) == shape(step.outputs[0]) && cx.view(*v).dense);
    step.inputs.iter().all(alike)
}

/// What elementwise work takes on the side.
pub fn room(cx: &Context, step: &Step) -> Room {
    let part = CHUNK.min(cx.shape(step.outputs[0]).total());
    if !narrow(cx, step) {
        // A row that a function of rows reads and writes.
        return Room::task(&[part]);
    }
    if step.op != Op::Select && alike(cx, step) {
        // Operands in f32, one of them on its way, and the result.
        return Room::task(&[part * step.inputs.len(), part, part]);
    }
    cx.wide_room(&step.inputs, &step.outputs).and(Room::task(&[part]))
}

/// An operand of elementwise work.
#[derive(Clone, Copy)]
enum Operand {
    Number(f32),
    Many(Source),
}

/// Copies a view into a view of a result, stored alike.
pub fn copy_view(x: &View, out: &View, place: Shared) {
    match x.stored {
        Stored::F32 => map_view(x, out, place, |x| x),
        Stored::Bf16 => rows([out, x], |at, by, len| {
            // SAFETY: rows of the result are disjoint; the input lies inside its view.
            unsafe {
                let (to, from) = (place.narrow().add(at[0]), x.narrow().add(at[1]));
                if by == [1, 1] {
                    std::ptr::copy_nonoverlapping(from, to, len);
                } else {
                    (0..len).for_each(|j| *to.add(j * by[0]) = *from.add(j * by[1]));
                }
            }
        }),
    }
}

/// Writes `f(x)` into a view of a result.
pub fn map_view(x: &View, out: &View, place: Shared, f: impl Fn(f32) -> f32 + Sync + Send) {
    rows([out, x], |at, by, len| {
        // SAFETY: rows of the result are disjoint; the input lies inside its view.
        unsafe {
            let from = x.data().add(at[1]);
            if by[0] == 1 {
                let y = result(out, place, at[0], len);
                match by[1] {
                    1 if over(from, y) => y.iter_mut().for_each(|y| *y = f(*y)),
                    1 => y.iter_mut().zip(std::slice::from_raw_parts(from, len)).for_each(|(y, x)| *y = f(*x)),
                    0 => y.fill(f(*from)),
                    by => y.iter_mut().enumerate().for_each(|(j, y)| *y = f(*from.add(j * by))),
                }
            } else {
                let to = result_pointer(out, place, at[0]);
                (0..len).for_each(|j| *to.add(j * by[0]) = f(*from.add(j * by[1])));
            }
        }
    });
}

fn map_rows(cx: &Context, step: &Step, f: impl Fn(&[f32], &mut [f32]) + Sync + Send) {
    narrow_or(cx, step, |[x]: [&[f32]; 1], y: &mut [f32]| f(x, y), || map_rows_strided(cx, step, &f));
}

fn map_rows_strided(cx: &Context, step: &Step, f: impl Fn(&[f32], &mut [f32]) + Sync + Send) {
    let x = cx.view(step.inputs[0]);
    let (out, place) = output_view(cx, step);
    rows([&out, &x], |at, by, len| {
        // SAFETY: rows of the result are disjoint; the input lies inside its view.
        unsafe {
            let (from, y) = (x.data().add(at[1]), result(&out, place, at[0], len));
            if over(from, y) {
                scratch(len, |x| {
                    x.copy_from_slice(y);
                    f(x, y);
                });
            } else if by[1] == 1 {
                f(std::slice::from_raw_parts(from, len), y);
            } else {
                for (j, y) in y.iter_mut().enumerate() {
                    f(std::slice::from_ref(&*from.add(j * by[1])), std::slice::from_mut(y));
                }
            }
        }
    });
}

fn zip(cx: &Context, step: &Step, f: impl Fn(f32, f32) -> f32 + Sync + Send) {
    let piece = |[a, b]: [&[f32]; 2], y: &mut [f32]| {
        y.iter_mut().zip(a.iter().zip(b)).for_each(|(y, (a, b))| *y = f(*a, *b));
    };
    narrow_or(cx, step, piece, || zip_strided(cx, step, &f));
}

fn zip_strided(cx: &Context, step: &Step, f: impl Fn(f32, f32) -> f32 + Sync + Send) {
    let (a, b) = (cx.view(step.inputs[0]), cx.view(step.inputs[1]));
    let (out, place) = output_view(cx, step);
    rows([&out, &a, &b], |at, by, len| {
        // SAFETY: rows of the result are disjoint; operands lie inside their views.
        unsafe {
            let y = result(&out, place, at[0], len);
            let (pa, pb) = (a.data().add(at[1]), b.data().add(at[2]));
            let slice = |p: *const f32| std::slice::from_raw_parts(p, len);
            match (by[1], by[2]) {
                (1, 1) if over(pa, y) && over(pb, y) => y.iter_mut().for_each(|y| *y = f(*y, *y)),
                (1, 1) if over(pa, y) => y.iter_mut().zip(slice(pb)).for_each(|(y, b)| *y = f(*y, *b)),
                (1, 1) if over(pb, y) => y.iter_mut().zip(slice(pa)).for_each(|(y, a)| *y = f(*a, *y)),
                (1, 1) => y.iter_mut().zip(slice(pa).iter().zip(slice(pb))).for_each(|(y, (a, b))| *y = f(*a, *b)),
                (1, 0) => {
                    let b = *pb;
                    if over(pa, y) {
                        y.iter_mut().for_each(|y| *y = f(*y, b));
                    } else {
                        y.iter_mut().zip(slice(pa)).for_each(|(y, a)| *y = f(*a, b));
                    }
                }
                (0, 1) => {
                    let a = *pa;
                    if over(pb, y) {
                        y.iter_mut().for_each(|y| *y = f(a, *y));
                    } else {
                        y.iter_mut().zip(slice(pb)).for_each(|(y, b)| *y = f(a, *b));
                    }
                }
                (sa, sb) => {
                    let y = y.as_mut_ptr();
                    (0..len).for_each(|j| *y.add(j) = f(*pa.add(j * sa), *pb.add(j * sb)));
                }
            }
        }
    });
}

/// True if a row of an operand is the row of the result itself: then the operand's elements are read from the result.
fn over(operand: *const f32, row: &[f32]) -> bool {
    std::ptr::eq(operand, row.as_ptr())
}

/// A contiguous row of a result.
///
/// # Safety
/// As [`Shared::part`].
unsafe fn result(out: &View, place: Shared, at: usize, len: usize) -> &'static mut [f32] {
    // The view's storage starts where the place does: results own their storage.
    debug_assert!(std::ptr::eq(out.data(), place.pointer()));
    unsafe { std::slice::from_raw_parts_mut(place.pointer().add(at), len) }
}

unsafe fn result_pointer(out: &View, place: Shared, at: usize) -> *mut f32 {
    debug_assert!(std::ptr::eq(out.data(), place.pointer()));
    unsafe { place.pointer().add(at) }
}

fn unary_number(op: UnaryOp, x: f64) -> f64 {
    match op {
        UnaryOp::Neg => -x,
        UnaryOp::Exp => libm::exp(x),
        UnaryOp::Log => libm::log(x),
        UnaryOp::Sqrt => x.sqrt(),
        UnaryOp::Abs => x.abs(),
        UnaryOp::Sin => libm::sin(x),
        UnaryOp::Cos => libm::cos(x),
        UnaryOp::Tanh => libm::tanh(x),
        UnaryOp::Erf => libm::erf(x),
        UnaryOp::Floor => x.floor(),
        UnaryOp::Ceil => x.ceil(),
        UnaryOp::Round => x.round_ties_even(),
        UnaryOp::Sign if x == 0.0 => 0.0,
        UnaryOp::Sign => x.signum(),
        UnaryOp::Not => f64::from(u8::from(x == 0.0)),
    }
}

fn binary_number(op: BinaryOp, whole: bool, a: f64, b: f64) -> f64 {
    let truth = |b: bool| f64::from(u8::from(b));
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div if whole => (a / b).floor(),
        BinaryOp::Div => a / b,
        BinaryOp::Rem => a - (a / b).floor() * b,
        BinaryOp::Pow => libm::pow(a, b),
        BinaryOp::Min => {
            if b < a {
                b
            } else {
                a
            }
        }
        BinaryOp::Max => {
            if b > a {
                b
            } else {
                a
            }
        }
        BinaryOp::Eq => truth(a == b),
        BinaryOp::Ne => truth(a != b),
        BinaryOp::Lt => truth(a < b),
        BinaryOp::Le => truth(a <= b),
        BinaryOp::Gt => truth(a > b),
        BinaryOp::Ge => truth(a >= b),
        BinaryOp::And => truth(a != 0.0 && b != 0.0),
        BinaryOp::Or => truth(a != 0.0 || b != 0.0),
    }
}

/// A number as an element type holds it.
fn round_to(dtype: DType, x: f64) -> f64 {
    match dtype {
        DType::F64 => x,
        DType::F32 => f64::from(x as f32),
        DType::Bf16 => f64::from(math::bf16(x as f32)),
        DType::I32 => x.trunc(),
        DType::Bool => f64::from(u8::from(x != 0.0)),
    }
}
