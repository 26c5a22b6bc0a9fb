//! How much memory the kernel of each op takes on the side, foretold from the extents of a step.
//!
//! Families with plans of their own (products, attention, norms) say it beside the kernel, from the numbers that the
//! kernel uses. The tests of every kernel fail if one takes more than is said here.

use super::context::Context;
use super::scratch::Room;
use super::{attention, einsum, elementwise, linear, norm, parallel, reads_bf16, reduce};
use crate::ir::kind::Kind;
use crate::ir::op::Op;
use crate::plan::Step;

/// What the kernel of a step takes on the side.
pub fn room(cx: &Context, step: &Step) -> Room {
    if !reads_bf16(cx, step) {
        return cx.wide_room(&step.inputs, &step.outputs);
    }
    match (&step.op, step.op.kind()) {
        (Op::Gelu | Op::GeluGrad, _) => {
            let part = parallel::CHUNK.min(cx.shape(step.outputs[0]).total());
            Room::task(&vec![part; copies(cx, step)])
        }
        (Op::Linear, _) => linear::room(cx, step),
        (Op::Einsum { a, b, out }, _) => einsum::room(cx, step, &einsum::Labels { a, b, out }),
        (Op::Attention { .. }, _) => attention::room(cx, step),
        (Op::AttentionGrad { .. }, _) => attention::grad_room(cx, step),
        (Op::Reduce { op, axes }, _) => reduce::room(cx, step, *op, axes),
        (Op::Gather { axis, .. }, _) => {
            let shape = cx.shape(step.inputs[0]);
            let post = (0..shape.blocks).map(|b| shape.dims(b)[axis + 1..].iter().product()).max().unwrap_or(0);
            Room::task(&[parallel::CHUNK.max(post), post])
        }
        (_, Kind::Elementwise) => elementwise::room(cx, step),
        (_, Kind::Norm) => norm::room(cx, step),
        (_, Kind::Leaf | Kind::View | Kind::Join | Kind::Move | Kind::Reduction | Kind::Effect(_)) => Room::default(),
        (_, Kind::Product | Kind::Attention) => Room::default(),
    }
}

/// Operands and results whose elements a kernel sees as copies: those in bf16, and operands that lie under the result.
pub fn copies(cx: &Context, step: &Step) -> usize {
    let out = cx.plan.buffer(step.outputs[0]);
    let copied = |v: &&usize| cx.narrow(&[**v]).len() == 1 || (out.is_some() && cx.plan.buffer(**v) == out);
    step.inputs.iter().filter(copied).count() + cx.narrow(&step.outputs[..1]).len()
}
