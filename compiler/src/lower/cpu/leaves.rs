//! Values that come from the step itself: numbers, index sets, counts, and slots that must be copied.

use super::context::Context;
use crate::ir::graph::{Extent, SetId, SlotId};
use crate::ir::op::Which;
use crate::lower::LowerError;
use crate::plan::Step;

/// A slot whose content changes before this value is last read.
pub fn read(cx: &Context, step: &Step, slot: SlotId) -> Result<(), LowerError> {
    cx.output(step, 0).copy_from_slice(cx.memory().slot(slot));
    Ok(())
}

/// 0, 1, 2, ... in every block.
pub fn iota(cx: &Context, step: &Step) -> Result<(), LowerError> {
    let shape = cx.shape(step.outputs[0]);
    let out = cx.output(step, 0);
    for block in 0..shape.blocks {
        let part = &mut out[shape.start(block)..shape.start(block) + shape.size(block)];
        part.iter_mut().enumerate().for_each(|(i, y)| *y = i as f32);
    }
    Ok(())
}

/// Index set of a mask draw.
pub fn index(cx: &Context, step: &Step, set: SetId, which: Which) -> Result<(), LowerError> {
    let out = cx.output(step, 0);
    let mut at = 0;
    cx.segments(|segments| {
        let data = &segments.sets[set.0 as usize];
        let lists = match which {
            Which::Context => &data.context,
            Which::Target => &data.target,
        };
        for list in lists {
            let Some(part) = out.get_mut(at..at + list.len()) else { break };
            part.iter_mut().zip(list).for_each(|(y, i)| *y = *i as f32);
            at += list.len();
        }
    });
    if at == out.len() {
        Ok(())
    } else {
        Err(LowerError::Bug(format!("index set of {at} elements where the counts say {}", out.len())))
    }
}

/// The place of a segment's mask in its list.
pub fn strategy(cx: &Context, step: &Step) -> Result<(), LowerError> {
    let clips = cx.clips();
    cx.output(step, 0).iter_mut().enumerate().for_each(|(s, y)| *y = (s / clips) as f32);
    Ok(())
}

/// Number of elements of a block with these extents.
pub fn size(cx: &Context, step: &Step, extents: &[Extent]) -> Result<(), LowerError> {
    let product = |block: usize| extents.iter().map(|e| cx.extent(*e, block)).product::<usize>() as f64;
    if cx.is_number(step.outputs[0]) {
        cx.set_number(step, product(0));
    } else {
        cx.output(step, 0).iter_mut().enumerate().for_each(|(b, y)| *y = product(b) as f32);
    }
    Ok(())
}
