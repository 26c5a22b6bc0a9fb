//! From yes and no to index sets: redraws, raster order, trimming by group, the segment table.

use vjepac::ir::graph::{MaskSpec, SegmentData, Segments};
use vjepac::program::Program;

use super::draw::{Answer, Plane};
use super::{ATTEMPTS, DrawKey, MaskError};

/// Runs the draw entry for a key; one answer a mask.
pub type Run<'a> = &'a mut dyn FnMut(DrawKey) -> Result<Vec<Answer>, MaskError>;

/// Index sets of one mask and clip: `rows` of token indices, ascending.
#[derive(Clone, Debug, Default, PartialEq)]
struct Rows {
    context: Vec<Vec<i32>>,
    target: Vec<Vec<i32>>,
}

/// All masks for the clips of `key`, redrawn where they fail, trimmed, and laid out for every set of the program.
pub fn segments(program: &Program, key: DrawKey, run: Run) -> Result<Segments, MaskError> {
    let tables = &program.tables;
    if tables.masks.is_empty() {
        return Ok(Segments { clips: key.clips, sets: vec![SegmentData::default(); tables.sets.len()] });
    }
    let mut drawn = accepted(&tables.masks, key, run)?;
    let group = program.run.as_ref().map_or(1, |r| r.group).max(1);
    for clips in &mut drawn {
        for members in clips.chunks_mut(group) {
            trim(members);
        }
    }
    let sets = tables.sets.iter().map(|set| lay_out(set.masks.iter().map(|&m| drawn[m].as_slice()))).collect();
    Ok(Segments { clips: key.clips, sets })
}

/// For every mask, the index sets of every clip.
fn accepted(masks: &[MaskSpec], key: DrawKey, run: Run) -> Result<Vec<Vec<Rows>>, MaskError> {
    let first = run(key)?;
    let mut drawn: Vec<Vec<Rows>> = Vec::with_capacity(masks.len());
    let mut failed: Vec<(usize, usize, String)> = Vec::new(); // (clip, mask, reason)
    for (m, (mask, answer)) in masks.iter().zip(&first).enumerate() {
        let mut clips = Vec::with_capacity(key.clips);
        for clip in 0..key.clips {
            clips.push(read(mask, answer, clip).unwrap_or_else(|reason| {
                failed.push((clip, m, reason));
                Rows::default()
            }));
        }
        drawn.push(clips);
    }
    failed.sort();
    // A clip's masks share the runs of their attempts.
    for of_clip in failed.chunk_by(|a, b| a.0 == b.0) {
        let clip = of_clip[0].0;
        let mut open: Vec<(usize, String)> = of_clip.iter().map(|(_, m, reason)| (*m, reason.clone())).collect();
        for attempt in 1..ATTEMPTS {
            if open.is_empty() {
                break;
            }
            let again = run(DrawKey { first_clip: key.first_clip + clip, clips: 1, attempt, ..key })?;
            open.retain_mut(|(m, reason)| match read(&masks[*m], &again[*m], 0) {
                Ok(rows) => {
                    drawn[*m][clip] = rows;
                    false
                }
                Err(why) => {
                    *reason = why;
                    true
                }
            });
        }
        if let Some((m, reason)) = open.into_iter().next() {
            return Err(MaskError::Exhausted { mask: masks[m].name.clone(), clip: key.first_clip + clip, reason });
        }
    }
    Ok(drawn)
}

/// The index sets of one clip, or why its draw failed.
fn read(mask: &MaskSpec, answer: &Answer, clip: usize) -> Result<Rows, String> {
    if let Some(n) = answer.require.iter().position(|r| !r.block(clip)[0]) {
        return Err(match answer.require.len() {
            1 => "its `require` does not hold".to_string(),
            _ => format!("its `require` number {} does not hold", n + 1),
        });
    }
    let rows = |plane: &Plane, what: &str| -> Result<Vec<Vec<i32>>, String> {
        plane
            .block(clip)
            .chunks(mask.tokens)
            .map(|row| {
                let index: Vec<i32> = (0..).zip(row).filter(|(_, yes)| **yes).map(|(i, _)| i).collect();
                if index.is_empty() { Err(format!("its {what} is empty")) } else { Ok(index) }
            })
            .collect()
    };
    Ok(Rows { context: rows(&answer.context, "context")?, target: rows(&answer.target, "target")? })
}

/// Cuts the rows of one mask's group to the shortest, context and target separately, keeping the first in raster order.
fn trim(members: &mut [Rows]) {
    let shortest = |side: fn(&Rows) -> &Vec<Vec<i32>>, members: &[Rows]| {
        members.iter().flat_map(|m| side(m).iter().map(Vec::len)).min().unwrap_or(0)
    };
    let context = shortest(|m| &m.context, members);
    let target = shortest(|m| &m.target, members);
    for member in members {
        member.context.iter_mut().for_each(|row| row.truncate(context));
        member.target.iter_mut().for_each(|row| row.truncate(target));
    }
}

/// The segments of a set: mask-major, clip-minor.
fn lay_out<'a>(masks: impl Iterator<Item = &'a [Rows]>) -> SegmentData {
    let mut data = SegmentData::default();
    for rows in masks.flatten() {
        data.context_count.push(rows.context[0].len());
        data.target_count.push(rows.target[0].len());
        data.context.push(rows.context.concat());
        data.target.push(rows.target.concat());
    }
    data
}
