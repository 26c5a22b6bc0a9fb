//! Pad and Concat: copies into regions of the result.

use super::context::Context;
use super::elementwise::copy_view;
use super::parallel::{CHUNK, pieces};
use super::view::{View, dense_strides};
use crate::ir::graph::Extent;
use crate::lower::LowerError;
use crate::plan::Step;

/// Zeros around the input.
pub fn pad(cx: &Context, step: &Step, axis: usize, before: &[Extent]) -> Result<(), LowerError> {
    let place = cx.shared(step, 0);
    let total = cx.shape(step.outputs[0]).total();
    // SAFETY: pieces do not overlap.
    pieces(total, CHUNK, |from, to| unsafe { place.clear(from, to - from) });
    let blocks = cx.shape(step.outputs[0]).blocks;
    let starts: Vec<usize> = (0..blocks).map(|b| cx.sum(before, b)).collect();
    insert(cx, step, 0, axis, &starts);
    Ok(())
}

/// Inputs one after another along an axis.
pub fn concat(cx: &Context, step: &Step, axis: usize) -> Result<(), LowerError> {
    let mut starts = vec![0; cx.shape(step.outputs[0]).blocks];
    for (i, &value) in step.inputs.iter().enumerate() {
        insert(cx, step, i, axis, &starts);
        let shape = cx.shape(value);
        starts.iter_mut().enumerate().for_each(|(b, s)| *s += shape.dims(b)[axis]);
    }
    Ok(())
}

/// Copies input `i` to where position `starts[block]` of the axis is.
fn insert(cx: &Context, step: &Step, i: usize, axis: usize, starts: &[usize]) {
    let x = cx.view(step.inputs[i]);
    let out = cx.shape(step.outputs[0]);
    let place = cx.shared(step, 0);
    let (mut bases, mut strides) = (vec![], vec![]);
    for (block, start) in starts.iter().enumerate() {
        let by = dense_strides(out.dims(block));
        bases.push(out.start(block) + start * by[axis]);
        strides.extend(by);
    }
    copy_view(&x, &View::region(place, x.shape.clone(), bases, strides), place);
}
