//! Attention by segment and head, forward and backward; scores exist only as tiles in a thread's own memory.
//!
//! Forward, for a tile of rows: S = scale q k^T, E = e^(S - rowmax), r = 1 / rowsum(E), out = r (E v). Backward, with
//! D = rowsum(g out): dP = g v^T, dS = scale r E (dP - D), dq = dS k, dk = sum over tiles of dS^T q, dv = sum over tiles
//! of E^T (r g). The factor r, which would make E the softmax, is never applied to the scores by itself.
//! One task is a tile forward, and a whole head of a segment backward, because tiles add into the same dk and dv.

use super::context::{Context, View};
use super::math::dot;
use super::norm::exp_rows;
use super::parallel::{Shared, each, scratch, simd};
use super::products::{Matrix, Product, tile};
use crate::lower::LowerError;
use crate::plan::Step;

/// Rows of a tile: scores of 128 rows and some hundred columns fit a core's second cache.
const ROWS: usize = 128;

/// A head of a segment: where its rows are.
#[derive(Clone, Copy)]
struct Head {
    data: *const f32,
    row: usize,
}

impl Head {
    /// Head `h` of a block of [rows, heads, width].
    fn of(view: &View, block: usize, h: usize) -> Head {
        let strides = view.strides(block);
        Head { data: view.at(block).wrapping_add(h * strides[1]), row: strides[0] }
    }

    fn rows(self, from: usize) -> Matrix {
        Matrix { data: self.data.wrapping_add(from * self.row), row: self.row, col: 1 }
    }

    fn transposed(self, from: usize) -> Matrix {
        Matrix { data: self.data.wrapping_add(from * self.row), row: 1, col: self.row }
    }
}

fn product(a: Matrix, b: Matrix, m: usize, n: usize, k: usize) -> Product<'static> {
    Product { a, b, m, n, k, scale: 1.0, add: false, bias: None }
}

/// Result [n, h, e].
pub fn attention(cx: &Context, step: &Step, scale: f64) -> Result<(), LowerError> {
    let [q, k, v] = [0, 1, 2].map(|i| cx.view(step.inputs[i]));
    let out = cx.view(step.outputs[0]);
    let place = cx.shared(step, 0);
    let mut tasks = vec![];
    for block in 0..out.shape.blocks {
        let [n, heads, _] = *q.shape.dims(block) else { return Err(rank()) };
        for h in 0..heads {
            tasks.extend((0..n).step_by(ROWS).map(|row| (block, h, row, ROWS.min(n - row))));
        }
    }
    each(tasks.len(), |t| {
        let (block, h, row, rows) = tasks[t];
        let d = q.shape.dims(block)[2];
        let (m, e) = (v.shape.dims(block)[0], v.shape.dims(block)[2]);
        let [q, k, v] = [&q, &k, &v].map(|view| Head::of(view, block, h));
        let y = Head::of(&out, block, h);
        scratch(rows * m + rows, |room| {
            let (scores, r) = room.split_at_mut(rows * m);
            // SAFETY: heads lie inside their views; tasks have rows of the result of their own.
            unsafe {
                let p = Product { scale: scale as f32, ..product(q.rows(row), k.transposed(0), rows, m, d) };
                tile(p, scores.as_mut_ptr(), m);
                exp_rows(scores, m, r);
                let exps = Matrix { data: scores.as_ptr(), row: m, col: 1 };
                let at = place.pointer().add(out.base(block) + h * out.strides(block)[1] + row * y.row);
                tile(product(exps, v.rows(0), rows, e, m), at, y.row);
                for (i, r) in r.iter().enumerate() {
                    std::slice::from_raw_parts_mut(at.add(i * y.row), e).iter_mut().for_each(|y| *y *= r);
                }
            }
        });
    });
    Ok(())
}

fn rank() -> LowerError {
    LowerError::Bug("attention over something other than [tokens, heads, width]".into())
}

/// dq, dk, dv.
pub fn attention_grad(cx: &Context, step: &Step, scale: f64) -> Result<(), LowerError> {
    let [q, k, v, out, g] = [0, 1, 2, 3, 4].map(|i| cx.view(step.inputs[i]));
    let grads = [0, 1, 2].map(|port| (cx.view(step.outputs[port]), cx.shared(step, port)));
    let mut tasks = vec![];
    for block in 0..q.shape.blocks {
        let [n, heads, _] = *q.shape.dims(block) else { return Err(rank()) };
        tasks.extend((0..heads).map(|h| (n * v.shape.dims(block)[0], block, h)));
    }
    // The longest first, so that no thread ends with one alone.
    tasks.sort_by_key(|t| (std::cmp::Reverse(t.0), t.1, t.2));
    each(tasks.len(), |t| {
        let (_, block, h) = tasks[t];
        let (n, d) = (q.shape.dims(block)[0], q.shape.dims(block)[2]);
        let (m, e) = (v.shape.dims(block)[0], v.shape.dims(block)[2]);
        let [q, k, v, out, g] = [&q, &k, &v, &out, &g].map(|view| Head::of(view, block, h));
        let [dq, dk, dv] = [0, 1, 2].map(|i| HeadGrad::of(&grads[i], block, h));
        let tile_rows = ROWS.min(n);
        scratch(tile_rows * (2 * m + e + 1), |room| {
            let (exps, room) = room.split_at_mut(tile_rows * m);
            let (dp, room) = room.split_at_mut(tile_rows * m);
            let (rg, r) = room.split_at_mut(tile_rows * e);
            for row in (0..n).step_by(ROWS) {
                let rows = ROWS.min(n - row);
                let (exps, dp) = (&mut exps[..rows * m], &mut dp[..rows * m]);
                let r = &mut r[..rows];
                let first = row > 0;
                // SAFETY: heads lie inside their views; a task has a head of every result of its own.
                unsafe {
                    let scores = Product { scale: scale as f32, ..product(q.rows(row), k.transposed(0), rows, m, d) };
                    tile(scores, exps.as_mut_ptr(), m);
                    exp_rows(exps, m, r);
                    tile(product(g.rows(row), v.transposed(0), rows, m, e), dp.as_mut_ptr(), m);
                    for i in 0..rows {
                        let line = |head: Head| std::slice::from_raw_parts(head.data.add((row + i) * head.row), e);
                        let (exps, dp) = (&exps[i * m..(i + 1) * m], &mut dp[i * m..(i + 1) * m]);
                        score_grad(exps, dp, line(g), line(out), scale as f32 * r[i]);
                        rg[i * e..(i + 1) * e].iter_mut().zip(line(g)).for_each(|(y, g)| *y = r[i] * g);
                    }
                    let exps_t = Matrix { data: exps.as_ptr(), row: 1, col: m };
                    let rg = Matrix { data: rg.as_ptr(), row: e, col: 1 };
                    tile(Product { add: first, ..product(exps_t, rg, m, e, rows) }, dv.data, dv.row);
                    let ds = Matrix { data: dp.as_ptr(), row: m, col: 1 };
                    tile(product(ds, k.rows(0), rows, d, m), dq.data.add(row * dq.row), dq.row);
                    let dst = Matrix { data: dp.as_ptr(), row: 1, col: m };
                    tile(Product { add: first, ..product(dst, q.rows(row), m, d, rows) }, dk.data, dk.row);
                }
            }
        });
    });
    Ok(())
}

/// A head of a gradient.
struct HeadGrad {
    data: *mut f32,
    row: usize,
}

impl HeadGrad {
    fn of((view, place): &(View, Shared), block: usize, h: usize) -> HeadGrad {
        let strides = view.strides(block);
        HeadGrad { data: place.pointer().wrapping_add(view.base(block) + h * strides[1]), row: strides[0] }
    }
}

simd! {
    /// dp = scale exps (dp - g . out)
    fn score_grad(exps: &[f32], dp: &mut [f32], g: &[f32], out: &[f32], scale: f32) { <FMA>
        let _ = FMA;
        let d = dot(g, out);
        for (dp, e) in dp.iter_mut().zip(exps) {
            *dp = scale * e * (*dp - d);
        }
    }
}
