//! Attention by segment and head, forward and backward; scores exist only as tiles in a thread's own memory.
//!
//! Scores are held transposed, a row for each key and a column for each query, because then the softmax works on columns
//! with no sum across lanes, the keys and values are read where they lie, and only a tile of queries is packed.

mod backward;
mod forward;
mod operands;
mod softmax;
#[cfg(test)]
mod tests;

use super::context::Context;
use super::lanes::Set;
use super::matmul::{Factor, Out, kind};
use super::parallel::each;
use super::place::Shared;
use super::scratch::Room;
use super::view::View;
use crate::lower::LowerError;
use crate::plan::Step;
use operands::Products;

/// Head `h` of a block of [rows, heads, width].
fn head(view: &View, block: usize, h: usize) -> Factor {
    let strides = view.strides(block);
    view.factor(block, h * strides[1], strides[0], 1)
}

/// The same of a result.
fn head_out((view, place): &(View, Shared), block: usize, h: usize) -> Out {
    let strides = view.strides(block);
    place.out(view.base(block) + h * strides[1], strides[0])
}

/// Sizes of a head: queries, keys, width of queries and keys, width of values; and the factor of the scores.
#[derive(Clone, Copy)]
struct Sizes {
    n: usize,
    m: usize,
    d: usize,
    e: usize,
    scale: f32,
}

impl Sizes {
    fn of(q: &View, v: &View, block: usize, scale: f64) -> Result<(Sizes, usize), LowerError> {
        let ([n, heads, d], [m, _, e]) = (q.shape.dims(block), v.shape.dims(block)) else {
            return Err(LowerError::Bug("attention over something other than [tokens, heads, width]".into()));
        };
        Ok((Sizes { n: *n, m: *m, d: *d, e: *e, scale: scale as f32 }, *heads))
    }
}

/// Result [n, h, e].
pub fn attention(cx: &Context, step: &Step, scale: f64) -> Result<(), LowerError> {
    let [q, k, v] = [0, 1, 2].map(|i| cx.view(step.inputs[i]));
    let out = (cx.view(step.outputs[0]), cx.shared(step, 0));
    let mut tasks = vec![];
    for block in 0..out.0.shape.blocks {
        let (sizes, heads) = Sizes::of(&q, &v, block, scale)?;
        for h in 0..heads {
            tasks.extend((0..sizes.n).step_by(forward::QUERIES).map(|row| (block, h, row, sizes)));
        }
    }
    each(tasks.len(), |t| {
        let (block, h, row, sizes) = tasks[t];
        let [q, k, v] = [&q, &k, &v].map(|view| head(view, block, h));
        let y = head_out(&out, block, h);
        let set = Set::best();
        forward::queries(Products { set, kind: kind(set, &[q, k, v]) }, &forward::Heads { q, k, v, y }, sizes, row);
    });
    Ok(())
}

/// What a task of [`attention`] takes on the side.
pub fn room(cx: &Context, step: &Step) -> Room {
    let [q, k, v] = [0, 1, 2].map(|i| cx.view(step.inputs[i]));
    let mut most = Room::default();
    for block in 0..q.shape.blocks {
        let Ok((sizes, _)) = Sizes::of(&q, &v, block, 1.0) else { continue };
        let [q, k, v] = [&q, &k, &v].map(|view| head(view, block, 0));
        let p = Products { set: Set::best(), kind: kind(Set::best(), &[q, k, v]) };
        let rooms = forward::room(p, k, sizes, forward::QUERIES.min(sizes.n));
        most = most.or(Room::task(&[rooms.iter().sum()]));
    }
    most
}

/// What a task of [`attention_grad`] takes on the side.
pub fn grad_room(cx: &Context, step: &Step) -> Room {
    let [q, k, v, g] = [0, 1, 2, 4].map(|i| cx.view(step.inputs[i]));
    let mut most = Room::default();
    for block in 0..q.shape.blocks {
        let Ok((sizes, _)) = Sizes::of(&q, &v, block, 1.0) else { continue };
        let [q, k, v, g] = [&q, &k, &v, &g].map(|view| head(view, block, 0));
        let p = Products { set: Set::best(), kind: kind(Set::best(), &[q, k, v, g]) };
        most = most.or(Room::task(&[backward::Rooms::new(p, k, v, sizes).total()]));
    }
    most
}

/// dq, dk, dv.
pub fn attention_grad(cx: &Context, step: &Step, scale: f64) -> Result<(), LowerError> {
    let [q, k, v, out, g] = [0, 1, 2, 3, 4].map(|i| cx.view(step.inputs[i]));
    let grads = [0, 1, 2].map(|port| (cx.view(step.outputs[port]), cx.shared(step, port)));
    let mut tasks = vec![];
    for block in 0..q.shape.blocks {
        let (sizes, heads) = Sizes::of(&q, &v, block, scale)?;
        tasks.extend((0..heads).map(|h| (block, h, sizes)));
    }
    // The longest first, so that no thread ends with one alone.
    tasks.sort_by_key(|(block, h, s)| (std::cmp::Reverse(s.n * s.m), *block, *h));
    each(tasks.len(), |t| {
        let (block, h, sizes) = tasks[t];
        let [q, k, v, out, g] = [&q, &k, &v, &out, &g].map(|view| head(view, block, h));
        let [dq, dk, dv] = [0, 1, 2].map(|i| head_out(&grads[i], block, h));
        let set = Set::best();
        let p = Products { set, kind: kind(set, &[q, k, v, g]) };
        backward::head(p, &backward::Heads { q, k, v, out, g, dq, dk, dv }, sizes);
    });
    Ok(())
}
