//! Places buffers in one arena so that buffers that live at the same time do not overlap.
//!
//! An allocator is played through the schedule: buffers that begin at a step take the smallest gap that holds them, those
//! that end there give their room back. This costs O(n log n) a step and about a tenth more room than the largest sum of
//! living buffers, the lower bound.

use std::collections::{BTreeMap, BTreeSet};

use super::Buffer;

/// Buffers start at multiples of this many elements (64 bytes of f32), so that rows of one never share a line with another.
pub const ALIGN: usize = 16;

/// Offsets of the buffers, and the room needed, in elements. `sizes` has one entry a buffer.
pub fn offsets(buffers: &[Buffer], sizes: &[usize]) -> (Vec<usize>, usize) {
    let steps = buffers.iter().map(|b| b.last + 1).max().unwrap_or(0);
    let mut begins = vec![vec![]; steps];
    let mut ends = vec![vec![]; steps];
    for (i, b) in buffers.iter().enumerate() {
        begins[b.first].push(i);
        ends[b.last].push(i);
    }
    let mut offsets = vec![0; buffers.len()];
    let mut gaps = Gaps::default();
    for step in 0..steps {
        for &i in &begins[step] {
            offsets[i] = gaps.take(round(sizes[i]));
        }
        for &i in &ends[step] {
            gaps.give(offsets[i], round(sizes[i]));
        }
    }
    (offsets, gaps.end)
}

fn round(size: usize) -> usize {
    size.max(1).next_multiple_of(ALIGN)
}

/// Free room: by place, and by size.
#[derive(Default)]
struct Gaps {
    by_start: BTreeMap<usize, usize>,
    by_size: BTreeSet<(usize, usize)>,
    end: usize,
}

impl Gaps {
    fn take(&mut self, size: usize) -> usize {
        if let Some(&(room, start)) = self.by_size.range((size, 0)..).next() {
            self.remove(start, room);
            if room > size {
                self.insert(start + size, room - size);
            }
            return start;
        }
        // A gap at the very end grows; otherwise the arena does.
        let start = match self.by_start.last_key_value().map(|(s, r)| (*s, *r)) {
            Some((start, room)) if start + room == self.end => {
                self.remove(start, room);
                start
            }
            _ => self.end,
        };
        self.end = start + size;
        start
    }

    fn give(&mut self, mut start: usize, mut size: usize) {
        if let Some((s, r)) = self.by_start.range(..start).next_back().map(|(s, r)| (*s, *r))
            && s + r == start
        {
            self.remove(s, r);
            start = s;
            size += r;
        }
        if let Some(&r) = self.by_start.get(&(start + size)) {
            self.remove(start + size, r);
            size += r;
        }
        self.insert(start, size);
    }

    fn insert(&mut self, start: usize, size: usize) {
        self.by_start.insert(start, size);
        self.by_size.insert((size, start));
    }

    fn remove(&mut self, start: usize, size: usize) {
        self.by_start.remove(&start);
        self.by_size.remove(&(size, start));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stored;
    use super::*;

    /// Random lifetimes: no two living buffers overlap, and the room stays near the largest living sum.
    #[test]
    fn living_buffers_never_overlap() {
        let mut state = 12345u64;
        let mut next = move |n: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % n
        };
        let mut buffers = vec![];
        let mut sizes = vec![];
        for first in 0..1000 {
            buffers.push(Buffer {
                shape: 0,
                stored: Stored::F32,
                first,
                last: first + 1 + next(if first % 7 == 0 { 600 } else { 6 }),
            });
            sizes.push(1 + next(100_000));
        }
        let (at, room) = offsets(&buffers, &sizes);
        for i in 0..buffers.len() {
            assert!(at[i] + sizes[i] <= room && at[i] % ALIGN == 0);
            for j in 0..i {
                let together = buffers[i].first <= buffers[j].last && buffers[j].first <= buffers[i].last;
                let overlap = at[i] < at[j] + sizes[j] && at[j] < at[i] + sizes[i];
                assert!(!(together && overlap), "{i} and {j}");
            }
        }
        let living = |s: usize| -> usize {
            (0..buffers.len()).filter(|&i| buffers[i].first <= s && s <= buffers[i].last).map(|i| sizes[i]).sum()
        };
        let bound = (0..1600).map(living).max().unwrap();
        assert!(room <= bound * 3 / 2, "{room} for {bound}");
    }
}
