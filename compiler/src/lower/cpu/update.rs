//! Effects on slots: Accumulate, Store, AdamW, SGD, moving averages; one pass over memory each.

use super::context::Context;
use super::parallel::{CHUNK, pieces, simd};
use super::place::Shared;
use crate::ir::graph::SlotId;
use crate::lower::LowerError;
use crate::plan::{Home, Step};

/// The slot's room, its size checked against the input's.
fn slot(cx: &Context, id: SlotId, len: usize) -> Result<Shared, LowerError> {
    let content = cx.memory().slot_mut(id);
    if content.len() != len {
        let name = &cx.program.tables.slots[id.0 as usize].key;
        return Err(LowerError::Bug(format!("{len} elements for `{name}`, which has {}", content.len())));
    }
    Ok(Shared::new(content))
}

/// Copies the slot where its new content must outlive the next change.
fn give(cx: &Context, step: &Step, id: SlotId) {
    if let Home::Arena(_) = cx.plan.values[step.outputs[0]].home {
        cx.output(step, 0).copy_from_slice(cx.memory().slot(id));
    }
}

/// slot += input.
pub fn accumulate(cx: &Context, step: &Step, id: SlotId) -> Result<(), LowerError> {
    let x = cx.input(step, 0);
    let place = slot(cx, id, x.len())?;
    pieces(x.len(), CHUNK, |from, to| {
        // SAFETY: pieces do not overlap.
        let y = unsafe { place.part(from, to - from) };
        y.iter_mut().zip(&x[from..to]).for_each(|(y, x)| *y += x);
    });
    give(cx, step, id);
    Ok(())
}

/// slot = input.
pub fn store(cx: &Context, step: &Step, id: SlotId) -> Result<(), LowerError> {
    let x = cx.input(step, 0);
    let place = slot(cx, id, x.len())?;
    if !std::ptr::eq(place.pointer(), x.as_ptr()) {
        // SAFETY: a value is a whole slot or does not overlap it; pieces do not overlap.
        pieces(x.len(), CHUNK, |from, to| unsafe { place.part(from, to - from) }.copy_from_slice(&x[from..to]));
    }
    give(cx, step, id);
    Ok(())
}

/// The numbers of AdamW in the order of use.
#[derive(Clone, Copy)]
struct AdamwNumbers {
    clip: f32,
    keep: f32,
    b1: f32,
    one_b1: f32,
    b2: f32,
    one_b2: f32,
    rate: f32,
    root: f32,
    eps: f32,
}

/// Slots of AdamW.
pub struct AdamwSlots {
    /// w.
    pub weight: SlotId,
    /// m.
    pub first: SlotId,
    /// v.
    pub second: SlotId,
}

/// AdamW; inputs g, clip factor, lr, decay, t, b1, b2, eps.
pub fn adamw(cx: &Context, step: &Step, slots: &AdamwSlots) -> Result<(), LowerError> {
    let g = cx.input(step, 0);
    let [clip, lr, decay, t, b1, b2, eps] = [1, 2, 3, 4, 5, 6, 7].map(|i| cx.number(step.inputs[i]));
    let numbers = AdamwNumbers {
        clip: clip as f32,
        keep: (1.0 - lr * decay) as f32,
        b1: b1 as f32,
        one_b1: (1.0 - b1) as f32,
        b2: b2 as f32,
        one_b2: (1.0 - b2) as f32,
        rate: (lr / (1.0 - libm::pow(b1, t))) as f32,
        root: (1.0 / libm::sqrt(1.0 - libm::pow(b2, t))) as f32,
        eps: eps as f32,
    };
    let w = slot(cx, slots.weight, g.len())?;
    let m = slot(cx, slots.first, g.len())?;
    let v = slot(cx, slots.second, g.len())?;
    pieces(g.len(), CHUNK, |from, to| {
        let n = to - from;
        // SAFETY: pieces do not overlap, nor do slots.
        let (w, m, v) = unsafe { (w.part(from, n), m.part(from, n), v.part(from, n)) };
        adamw_row(&g[from..to], w, m, v, numbers);
    });
    give(cx, step, slots.weight);
    Ok(())
}

simd! {
    fn adamw_row(g: &[f32], w: &mut [f32], m: &mut [f32], v: &mut [f32], c: AdamwNumbers) { <FMA>
        let _ = FMA;
        for (((g, w), m), v) in g.iter().zip(w).zip(m).zip(v) {
            let g = g * c.clip;
            *m = c.b1 * *m + c.one_b1 * g;
            *v = c.b2 * *v + c.one_b2 * g * g;
            *w = *w * c.keep - c.rate * *m / (v.sqrt() * c.root + c.eps);
        }
    }
}

/// SGD; inputs g, clip factor, lr, decay, momentum.
pub fn sgd(cx: &Context, step: &Step, weight: SlotId, velocity: Option<SlotId>) -> Result<(), LowerError> {
    let g = cx.input(step, 0);
    let [clip, lr, decay, momentum] = [1, 2, 3, 4].map(|i| cx.number(step.inputs[i]));
    let (clip, keep, rate, momentum) = (clip as f32, (1.0 - lr * decay) as f32, lr as f32, momentum as f32);
    let w = slot(cx, weight, g.len())?;
    let m = velocity.map(|id| slot(cx, id, g.len())).transpose()?;
    pieces(g.len(), CHUNK, |from, to| {
        let g = &g[from..to];
        // SAFETY: pieces do not overlap, nor do slots.
        let w = unsafe { w.part(from, to - from) };
        match m {
            Some(m) => {
                let m = unsafe { m.part(from, to - from) };
                for ((g, w), m) in g.iter().zip(w).zip(m) {
                    *m = momentum * *m + clip * g;
                    *w = *w * keep - rate * *m;
                }
            }
            None => g.iter().zip(w).for_each(|(g, w)| *w = *w * keep - rate * clip * g),
        }
    });
    give(cx, step, weight);
    Ok(())
}

/// average = m average + (1 - m) value; inputs value, m.
pub fn ema(cx: &Context, step: &Step, id: SlotId) -> Result<(), LowerError> {
    let x = cx.input(step, 0);
    let m = cx.number(step.inputs[1]);
    let (keep, take) = (m as f32, (1.0 - m) as f32);
    let place = slot(cx, id, x.len())?;
    pieces(x.len(), CHUNK, |from, to| {
        // SAFETY: pieces do not overlap.
        let y = unsafe { place.part(from, to - from) };
        y.iter_mut().zip(&x[from..to]).for_each(|(y, x)| *y = keep * *y + take * x);
    });
    give(cx, step, id);
    Ok(())
}
