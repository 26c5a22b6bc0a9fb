//! A run of consecutive clips cut out of a batch: inputs and segments of a micro-batch.

use std::ops::Range;

use vjepac::ir::graph::{InputSpec, SegmentData, Segments, Tables};

/// Numbers that one clip supplies for an input.
pub fn input_size(spec: &InputSpec) -> usize {
    match spec {
        InputSpec::Video(v) => v.frames * v.size * v.size * 3,
        InputSpec::Image(v) => v.size * v.size * 3,
        InputSpec::Label { .. } => 1,
    }
}

/// The inputs of some clips.
pub fn inputs(tables: &Tables, all: &[Vec<f32>], clips: &Range<usize>) -> Vec<Vec<f32>> {
    let part = |(spec, data): (&InputSpec, &Vec<f32>)| {
        let size = input_size(spec);
        data[clips.start * size..clips.end * size].to_vec()
    };
    tables.inputs.iter().zip(all).map(part).collect()
}

/// The segments of some clips: those clips of every mask.
pub fn segments(tables: &Tables, all: &Segments, clips: &Range<usize>) -> Segments {
    let sets = tables.sets.iter().zip(&all.sets).map(|(set, data)| {
        let mut part = SegmentData::default();
        for mask in 0..set.masks.len() {
            let range = mask * all.clips + clips.start..mask * all.clips + clips.end;
            part.context.extend_from_slice(&data.context[range.clone()]);
            part.target.extend_from_slice(&data.target[range.clone()]);
            part.context_count.extend_from_slice(&data.context_count[range.clone()]);
            part.target_count.extend_from_slice(&data.target_count[range]);
        }
        part
    });
    Segments { clips: clips.len(), sets: sets.collect() }
}

/// Ranges of clips of at most `most` clips each, made of whole groups of `group` clips: at least one group each. The last
/// group may be smaller.
pub fn micro_batches(clips: usize, group: usize, most: usize) -> Vec<Range<usize>> {
    if most >= clips {
        return std::iter::once(0..clips).collect(); // the last group may be smaller
    }
    let size = (most / group.max(1)).max(1) * group.max(1);
    (0..clips).step_by(size).map(|start| start..(start + size).min(clips)).collect()
}

#[cfg(test)]
mod tests {
    use vjepac::ir::graph::SegmentSet;

    use super::*;

    #[test]
    fn micro_batches_hold_whole_groups() {
        assert_eq!(micro_batches(7, 2, 4), [0..4, 4..7]);
        assert_eq!(micro_batches(7, 3, 4), [0..3, 3..6, 6..7]);
        assert_eq!(micro_batches(7, 2, 7).len(), 1);
    }

    #[test]
    fn a_part_takes_its_clips_of_every_mask() {
        let tables = Tables { sets: vec![SegmentSet { masks: vec![0, 1] }], ..Tables::default() };
        let rows = |n: i32| (0..n).map(|i| vec![i; 1]).collect::<Vec<_>>();
        let all = Segments {
            clips: 3,
            sets: vec![SegmentData {
                context: rows(6),
                target: rows(6),
                context_count: (0..6).collect(),
                target_count: (10..16).collect(),
            }],
        };
        let part = segments(&tables, &all, &(1..3));
        assert_eq!(part.clips, 2);
        assert_eq!(part.sets[0].context, [[1], [2], [4], [5]]);
        assert_eq!(part.sets[0].target_count, [11, 12, 14, 15]);
    }
}
