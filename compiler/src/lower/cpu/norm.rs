//! LayerNorm and Softmax over the last dim, forward and backward.
//!
//! Forward: y = (x - mean) r w + b with r = 1 / sqrt(var + eps). Backward, with h = (x - mean) r and u = g w:
//! dx = r (u - mean(u) - h mean(u h)), dw = sum of g h over rows, db = sum of g over rows.
//! The sums over rows are taken in fixed groups of rows, whose results are added in order.

use super::context::Context;
use super::math::{dot, exp_and_sum, sum, sum_squares};
use super::parallel::{CHUNK, each, pieces, scratch, simd};
use super::place::Shared;
use super::room::copies;
use super::scratch::Room;
use crate::ir::op::Op;
use crate::lower::LowerError;
use crate::plan::Step;

/// Rows whose dw and db are added up by one task.
const GROUP: usize = 128;

/// Rows of a task.
fn rows_a_task(width: usize) -> usize {
    (CHUNK / width.max(1)).max(1)
}

/// What layer norms and softmaxes take on the side; their backward too.
pub fn room(cx: &Context, step: &Step) -> Room {
    let shape = cx.shape(step.inputs[0]);
    let d = (0..shape.blocks).filter_map(|b| shape.dims(b).last().copied()).max().unwrap_or(1);
    let backward = matches!(step.op, Op::LayerNormGrad { .. });
    let part = if backward { GROUP * d } else { CHUNK.max(d) };
    let task = Room::task(&vec![part.min(shape.total()); copies(cx, step)]);
    let sums = if step.outputs.len() > 1 { shape.total().div_ceil(GROUP * d.max(1)) * 2 * d } else { 0 };
    task.and(Room::shared(&[sums]))
}

/// Layer norm.
pub fn layer_norm(cx: &Context, step: &Step, eps: f64) -> Result<(), LowerError> {
    let x = cx.source(step, 0);
    let d = cx.shape(step.inputs[0]).width();
    let w = step.inputs.get(1).map(|&v| cx.floats(v));
    let b = step.inputs.get(2).map(|&v| cx.floats(v));
    let place = cx.shared(step, 0);
    pieces(x.len() / d.max(1), rows_a_task(d), |from, to| {
        let (from, to) = (from * d, to * d);
        // SAFETY: pieces do not overlap.
        unsafe {
            x.read(place, from, to, |x| {
                place.write(from, to - from, |y| norm_rows(x, y, d, w.as_deref(), b.as_deref(), eps as f32));
            });
        }
    });
    Ok(())
}

simd! {
    fn norm_rows(x: &[f32], y: &mut [f32], d: usize, w: Option<&[f32]>, b: Option<&[f32]>, eps: f32) { <FMA>
        let _ = FMA;
        for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
            let mean = sum(x) / d as f32;
            let r = 1.0 / (sum_squares(x, mean) / d as f32 + eps).sqrt();
            match (w, b) {
                (Some(w), Some(b)) => {
                    for i in 0..d {
                        y[i] = (x[i] - mean) * r * w[i] + b[i];
                    }
                }
                (Some(w), None) => {
                    for i in 0..d {
                        y[i] = (x[i] - mean) * r * w[i];
                    }
                }
                (None, _) => {
                    for i in 0..d {
                        y[i] = (x[i] - mean) * r;
                    }
                }
            }
        }
    }
}

/// Backward of layer norm: dx, and with w also dw and db.
pub fn layer_norm_grad(cx: &Context, step: &Step, eps: f64) -> Result<(), LowerError> {
    let (x, g) = (cx.source(step, 0), cx.source(step, 1));
    let d = cx.shape(step.inputs[0]).width();
    let w = step.inputs.get(2).map(|&v| cx.floats(v));
    let dx = cx.shared(step, 0);
    let rows = x.len() / d.max(1);
    let groups = rows.div_ceil(GROUP);
    // partial: [groups, 2, d]
    let sums = if w.is_some() { groups * 2 * d } else { 0 };
    scratch(sums, |partial| {
        let partial = Shared::new(partial);
        each(groups, |group| {
            let (from, to) = (group * GROUP, ((group + 1) * GROUP).min(rows));
            let (from, to) = (from * d, to * d);
            // SAFETY: groups have rows and sums of their own.
            unsafe {
                let sums = if w.is_some() { partial.part(group * 2 * d, 2 * d) } else { &mut [] };
                x.read(dx, from, to, |x| {
                    g.read(dx, from, to, |g| {
                        dx.write(from, to - from, |y| norm_grad_rows(x, g, y, d, w.as_deref(), sums, eps as f32));
                    });
                });
            }
        });
        if w.is_some() {
            for port in 0..2 {
                let y = cx.output(step, port + 1);
                y.fill(0.0);
                for group in 0..groups {
                    // SAFETY: all tasks are done.
                    let part = unsafe { partial.part((group * 2 + port) * d, d) };
                    y.iter_mut().zip(part).for_each(|(y, p)| *y += *p);
                }
            }
        }
    });
    Ok(())
}

simd! {
    fn norm_grad_rows(x: &[f32], g: &[f32], dx: &mut [f32], d: usize, w: Option<&[f32]>, sums: &mut [f32], eps: f32) { <FMA>
        let _ = FMA;
        sums.fill(0.0);
        let (dw, db) = sums.split_at_mut(sums.len() / 2);
        let n = d as f32;
        for ((x, g), dx) in x.chunks_exact(d).zip(g.chunks_exact(d)).zip(dx.chunks_exact_mut(d)) {
            let mean = sum(x) / n;
            let r = 1.0 / (sum_squares(x, mean) / n + eps).sqrt();
            // dx holds h until it is known how u and h go together.
            for i in 0..d {
                dx[i] = (x[i] - mean) * r;
            }
            let (mean_u, mean_uh) = match w {
                Some(w) => {
                    for i in 0..d {
                        dw[i] += g[i] * dx[i];
                        db[i] += g[i];
                    }
                    (dot(g, w) / n, dot3(g, w, dx) / n)
                }
                None => (sum(g) / n, dot(g, dx) / n),
            };
            match w {
                Some(w) => {
                    for i in 0..d {
                        dx[i] = r * (g[i] * w[i] - mean_u - dx[i] * mean_uh);
                    }
                }
                None => {
                    for i in 0..d {
                        dx[i] = r * (g[i] - mean_u - dx[i] * mean_uh);
                    }
                }
            }
        }
    }
}

/// The sum of a b c.
#[inline(always)]
fn dot3(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    const LANES: usize = 32;
    let mut sums = [0.0f32; LANES];
    let whole = a.len() / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        let (a, b, c) = (&a[at..at + LANES], &b[at..at + LANES], &c[at..at + LANES]);
        for i in 0..LANES {
            sums[i] += a[i] * b[i] * c[i];
        }
    }
    let rest: f32 = (whole..a.len()).map(|i| a[i] * b[i] * c[i]).sum();
    sum(&sums) + rest
}

/// Softmax over the last dim.
pub fn softmax(cx: &Context, step: &Step) -> Result<(), LowerError> {
    let x = cx.source(step, 0);
    let shape = cx.shape(step.inputs[0]);
    let place = cx.shared(step, 0);
    for_rows(&shape, |start, len, d| {
        // SAFETY: tasks have rows of their own.
        unsafe {
            x.read(place, start, start + len, |x| {
                place.write(start, len, |y| {
                    y.copy_from_slice(x);
                    softmax_rows(y, d);
                });
            });
        }
    });
    Ok(())
}

/// Runs `task(first element, elements, width)` over groups of rows; the width may differ from block to block.
fn for_rows(shape: &crate::plan::shape::Shape, task: impl Fn(usize, usize, usize) + Sync + Send) {
    let mut tasks = vec![];
    for block in 0..shape.blocks {
        let d = shape.dims(block).last().copied().unwrap_or(1);
        let (size, group) = (shape.size(block), rows_a_task(d) * d);
        if size > 0 {
            tasks.extend((0..size).step_by(group).map(|s| (shape.start(block) + s, group.min(size - s), d)));
        }
    }
    each(tasks.len(), |t| task(tasks[t].0, tasks[t].1, tasks[t].2));
}

simd! {
    /// x = softmax(x) for every row of width d.
    fn softmax_rows(x: &mut [f32], d: usize) { <FMA>
        for x in x.chunks_exact_mut(d.max(1)) {
            let r = 1.0 / exp_and_sum::<FMA>(x);
            for v in x.iter_mut() {
                *v *= r;
            }
        }
    }
}

/// dx = y (g - sum(g y)).
pub fn softmax_grad(cx: &Context, step: &Step) -> Result<(), LowerError> {
    let (y, g) = (cx.source(step, 0), cx.source(step, 1));
    let shape = cx.shape(step.inputs[0]);
    let place = cx.shared(step, 0);
    for_rows(&shape, |start, len, d| {
        let end = start + len;
        // SAFETY: tasks have rows of their own.
        unsafe {
            y.read(place, start, end, |y| {
                g.read(place, start, end, |g| place.write(start, len, |dx| softmax_grad_rows(y, g, dx, d)));
            });
        }
    });
    Ok(())
}

simd! {
    fn softmax_grad_rows(y: &[f32], g: &[f32], dx: &mut [f32], d: usize) { <FMA>
        let _ = FMA;
        for ((y, g), dx) in y.chunks_exact(d).zip(g.chunks_exact(d)).zip(dx.chunks_exact_mut(d)) {
            let together = dot(y, g);
            for i in 0..d {
                dx[i] = y[i] * (g[i] - together);
            }
        }
    }
}
