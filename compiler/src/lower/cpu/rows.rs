//! Gather, ScatterAdd, OneHot and Patches: rows chosen by indices.

use super::context::Context;
use super::parallel::{CHUNK, each, pieces};
use crate::lower::LowerError;
use crate::plan::Step;
use crate::plan::shape::outer_block;

/// Columns that one task of a scatter takes.
const COLUMNS: usize = 64;

/// How rows lie: `[pre, axis, post]` of the whole side, `[pre, chosen, post]` of the picked side.
struct Rows {
    /// Leading coordinates before the axis.
    pre: usize,
    /// Of these, consecutive ones that share an index row.
    alike: usize,
    axis: usize,
    chosen: usize,
    post: usize,
}

impl Rows {
    fn new(whole: &[usize], index: &[usize], axis: usize, shared: usize) -> Rows {
        Rows {
            pre: whole[..axis].iter().product(),
            alike: whole[shared..axis].iter().product(),
            axis: whole[axis],
            chosen: index[shared..].iter().product(),
            post: whole[axis + 1..].iter().product(),
        }
    }

    /// The index that row `row` of the picked side uses, by its place in the index block.
    fn index_of(&self, row: usize) -> usize {
        row / self.chosen / self.alike * self.chosen + row % self.chosen
    }
}

/// Every index lies inside the axis. Masks see to that for tokens; labels come from the user's list.
fn check(index: &[f32], extent: usize) -> Result<(), LowerError> {
    match index.iter().find(|i| !(**i >= 0.0 && (**i as usize) < extent)) {
        None => Ok(()),
        Some(i) => Err(LowerError::User(format!("expected an index below {extent}, found {i}; labels count from 0"))),
    }
}

/// Rows of x at the given indices.
pub fn gather(cx: &Context, step: &Step, axis: usize, shared: usize) -> Result<(), LowerError> {
    let (x, index) = (cx.source(step, 0), cx.input(step, 1));
    let (xs, is, out) = (cx.shape(step.inputs[0]), cx.shape(step.inputs[1]), cx.shape(step.outputs[0]));
    let outer = cx.ty(step.outputs[0]).outer;
    let (x_outer, i_outer, clips) = (cx.ty(step.inputs[0]).outer, cx.ty(step.inputs[1]).outer, cx.clips());
    let place = cx.shared(step, 0);
    let mut tasks = vec![];
    for block in 0..out.blocks {
        let (xb, ib) = (outer_block(outer, x_outer, block, clips), outer_block(outer, i_outer, block, clips));
        let rows = Rows::new(xs.dims(xb), is.dims(ib), axis, shared);
        check(&index[is.start(ib)..is.start(ib) + is.size(ib)], rows.axis)?;
        let group = (CHUNK / rows.post.max(1)).max(1);
        let n = rows.pre * rows.chosen;
        tasks.extend((0..n).step_by(group).map(|r| (block, xb, ib, r, (r + group).min(n))));
    }
    each(tasks.len(), |t| {
        let (block, xb, ib, first, last) = tasks[t];
        let rows = Rows::new(xs.dims(xb), is.dims(ib), axis, shared);
        let index = &index[is.start(ib)..];
        let (start, post) = (out.start(block) + first * rows.post, rows.post);
        let from = |row: usize| {
            let at = row / rows.chosen * rows.axis + index[rows.index_of(row)] as usize;
            (xs.start(xb) + at * post, xs.start(xb) + (at + 1) * post)
        };
        // SAFETY: tasks have rows of their own; indices were checked.
        unsafe {
            place.write(start, (last - first) * post, |y| {
                for (row, y) in (first..last).zip(y.chunks_exact_mut(post.max(1))) {
                    let (from, to) = from(row);
                    x.read(place, from, to, |x| y.copy_from_slice(x));
                }
            });
        }
    });
    Ok(())
}

/// Rows of g added where the indices say. Every task has columns of its own and goes through the rows in order.
pub fn scatter_add(cx: &Context, step: &Step, axis: usize, shared: usize) -> Result<(), LowerError> {
    let (g, index) = (cx.input(step, 0), cx.input(step, 1));
    let (gs, is, out) = (cx.shape(step.inputs[0]), cx.shape(step.inputs[1]), cx.shape(step.outputs[0]));
    let outer = cx.ty(step.outputs[0]).outer;
    let (g_outer, i_outer, clips) = (cx.ty(step.inputs[0]).outer, cx.ty(step.inputs[1]).outer, cx.clips());
    let place = cx.shared(step, 0);
    let larger = g_outer.max(i_outer).max(outer);
    let members = gs.blocks.max(is.blocks).max(out.blocks);
    let mut tasks = vec![];
    for block in 0..out.blocks {
        let post: usize = out.dims(block)[axis + 1..].iter().product();
        tasks.extend((0..post).step_by(COLUMNS).map(|c| (block, c, (c + COLUMNS).min(post))));
    }
    for member in 0..members {
        let ib = outer_block(larger, i_outer, member, clips);
        let extent = out.dims(outer_block(larger, outer, member, clips))[axis];
        check(&index[is.start(ib)..is.start(ib) + is.size(ib)], extent)?;
    }
    each(tasks.len(), |t| {
        let (block, first, last) = tasks[t];
        let dims = out.dims(block);
        let post: usize = dims[axis + 1..].iter().product();
        let lines: usize = dims[..=axis].iter().product();
        for line in 0..lines {
            // SAFETY: tasks have columns of their own.
            unsafe { place.part(out.start(block) + line * post + first, last - first) }.fill(0.0);
        }
        for member in (0..members).filter(|&m| outer_block(larger, outer, m, clips) == block) {
            let (gb, ib) = (outer_block(larger, g_outer, member, clips), outer_block(larger, i_outer, member, clips));
            let rows = Rows::new(dims, is.dims(ib), axis, shared);
            let (g, index) = (&g[gs.start(gb)..], &index[is.start(ib)..]);
            for row in 0..rows.pre * rows.chosen {
                let at = row / rows.chosen * rows.axis + index[rows.index_of(row)] as usize;
                // SAFETY: as above.
                let y = unsafe { place.part(out.start(block) + at * post + first, last - first) };
                y.iter_mut().zip(&g[row * post + first..row * post + last]).for_each(|(y, g)| *y += g);
            }
        }
    });
    Ok(())
}

/// 1 where the position equals the number.
pub fn one_hot(cx: &Context, step: &Step) -> Result<(), LowerError> {
    let x = cx.input(step, 0);
    let out = cx.shape(step.outputs[0]);
    let y = cx.output(step, 0);
    y.fill(0.0);
    let (mut at, mut i) = (0, 0);
    for block in 0..out.blocks {
        let width = out.dims(block).last().copied().unwrap_or(1);
        for _ in 0..out.size(block) / width.max(1) {
            if x[i] >= 0.0 && (x[i] as usize) < width {
                y[at + x[i] as usize] = 1.0;
            }
            at += width;
            i += 1;
        }
    }
    Ok(())
}

/// Sizes of a tubelet: frames, pixel rows, pixel columns.
#[derive(Clone, Copy)]
pub struct Tubelet {
    /// Frames.
    pub tube: usize,
    /// Pixel rows.
    pub dy: usize,
    /// Pixel columns.
    pub dx: usize,
}

/// Tubelets of a clip as rows, ordered channel, frame, row, column; all of them or those of an index.
pub fn patches(cx: &Context, step: &Step, size: Tubelet) -> Result<(), LowerError> {
    let clip = cx.input(step, 0);
    let index = step.inputs.get(1).map(|&i| (cx.dense(i), cx.shape(i), cx.ty(i).outer));
    let (cs, out) = (cx.shape(step.inputs[0]), cx.shape(step.outputs[0]));
    let (outer, c_outer, clips) = (cx.ty(step.outputs[0]).outer, cx.ty(step.inputs[0]).outer, cx.clips());
    let place = cx.shared(step, 0);
    for block in 0..out.blocks {
        let cb = outer_block(outer, c_outer, block, clips);
        let [frames, height, width, channels] = cs.dims(cb) else {
            return Err(LowerError::Bug("patches of something other than [frames, height, width, channels]".into()));
        };
        let (frames, height, width, channels) = (*frames, *height, *width, *channels);
        let (down, across) = (height / size.dy, width / size.dx);
        if let Some((index, shape, i_outer)) = &index {
            let ib = outer_block(outer, *i_outer, block, clips);
            check(&index[shape.start(ib)..shape.start(ib) + shape.size(ib)], frames / size.tube * down * across)?;
        }
        let clip = &clip[cs.start(cb)..cs.start(cb) + cs.size(cb)];
        let row_len = channels * size.tube * size.dy * size.dx;
        let tokens = out.size(block) / row_len.max(1);
        pieces(tokens, (CHUNK / row_len.max(1)).max(1), |from, to| {
            // SAFETY: pieces do not overlap.
            let rows = unsafe { place.part(out.start(block) + from * row_len, (to - from) * row_len) };
            for (n, row) in (from..to).zip(rows.chunks_exact_mut(row_len)) {
                let token = match &index {
                    Some((index, shape, i_outer)) => {
                        index[shape.start(outer_block(outer, *i_outer, block, clips)) + n] as usize
                    }
                    None => n,
                };
                let (t, y, x) = (token / (down * across), token / across % down, token % across);
                let mut to = row.iter_mut();
                for c in 0..channels {
                    for f in t * size.tube..(t + 1) * size.tube {
                        for v in y * size.dy..(y + 1) * size.dy {
                            let line = ((f * height + v) * width + x * size.dx) * channels + c;
                            let pixels = clip[line..].iter().step_by(channels).take(size.dx);
                            pixels.for_each(|p| {
                                if let Some(to) = to.next() {
                                    *to = *p;
                                }
                            });
                        }
                    }
                }
            }
        });
    }
    Ok(())
}
