//! Places buffers in one arena so that buffers that live at the same time do not overlap.
//!
//! The largest sum of living buffers is the lower bound. First an allocator is played through the schedule: buffers that
//! begin at a step take the smallest gap that holds them, those that end there give their room back. This costs
//! O(n log n), and most training steps end within a hundredth of the bound. Where it takes more, buffers are also placed
//! by size, the largest first, each as low as those already placed that live with it allow: O(n^2), some milliseconds for
//! some thousand buffers, and mostly within a few hundredths. The smaller of the two is taken.

use std::collections::{BTreeMap, BTreeSet};

/// Buffers start at multiples of this many elements (64 bytes of f32), so that rows of one never share a line with another.
pub const ALIGN: usize = 16;

/// A buffer of a step: the steps it lives through, both ends included, and its size in elements of four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The step that writes it.
    pub first: usize,
    /// The last step that reads it.
    pub last: usize,
    /// Its size.
    pub words: usize,
}

/// Room above the lower bound that is not worth another attempt: one part in so many.
const NEAR: usize = 100;

/// Offsets of the buffers, and the room needed, in elements.
pub fn offsets(spans: &[Span]) -> (Vec<usize>, usize) {
    let played = in_order(spans);
    let bound = bound(spans);
    if played.1 <= bound + bound / NEAR {
        return played;
    }
    let sorted = by_size(spans);
    if sorted.1 < played.1 { sorted } else { played }
}

/// The largest sum of living buffers, in elements.
pub fn bound(spans: &[Span]) -> usize {
    living(spans).into_iter().max().unwrap_or(0)
}

/// What lives at each step, in elements.
pub fn living(spans: &[Span]) -> Vec<usize> {
    let steps = steps(spans);
    // What begins less what ended, in wrapping numbers.
    let mut living = vec![0usize; steps + 1];
    for span in spans {
        living[span.first] = living[span.first].wrapping_add(span.room());
        living[span.last + 1] = living[span.last + 1].wrapping_sub(span.room());
    }
    for step in 1..=steps {
        living[step] = living[step].wrapping_add(living[step - 1]);
    }
    living.truncate(steps);
    living
}

/// The allocator played through the schedule.
fn in_order(spans: &[Span]) -> (Vec<usize>, usize) {
    let steps = steps(spans);
    let mut begins = vec![vec![]; steps];
    let mut ends = vec![vec![]; steps];
    for (i, span) in spans.iter().enumerate() {
        begins[span.first].push(i);
        ends[span.last].push(i);
    }
    let mut offsets = vec![0; spans.len()];
    let mut gaps = Gaps::default();
    for step in 0..steps {
        for &i in &begins[step] {
            offsets[i] = gaps.take(spans[i].room());
        }
        for &i in &ends[step] {
            gaps.give(offsets[i], spans[i].room());
        }
    }
    (offsets, gaps.end)
}

/// The largest first, each as low as it fits; of equal ones that which lives longest.
fn by_size(spans: &[Span]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..spans.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse((spans[i].words, spans[i].last - spans[i].first)));
    let mut offsets = vec![0; spans.len()];
    let mut room = 0;
    // (start, end, first, last) by start.
    let mut placed: Vec<(usize, usize, usize, usize)> = Vec::with_capacity(spans.len());
    for i in order {
        let Span { first, last, .. } = spans[i];
        let size = spans[i].room();
        let mut at = 0;
        for &(start, end, begins, ends) in &placed {
            if begins <= last && first <= ends {
                if start >= at + size {
                    break;
                }
                at = at.max(end);
            }
        }
        offsets[i] = at;
        room = room.max(at + size);
        let place = placed.partition_point(|p| p.0 < at);
        placed.insert(place, (at, at + size, first, last));
    }
    (offsets, room)
}

impl Span {
    /// Its size in whole lines.
    fn room(&self) -> usize {
        self.words.max(1).next_multiple_of(ALIGN)
    }
}

fn steps(spans: &[Span]) -> usize {
    spans.iter().map(|s| s.last + 1).max().unwrap_or(0)
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
    use super::*;

    /// Random lifetimes, mostly short.
    fn random() -> Vec<Span> {
        let mut state = 12345u64;
        let mut next = move |n: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % n
        };
        let mut one = |first: usize| {
            let last = first + 1 + next(if first.is_multiple_of(7) { 600 } else { 6 });
            Span { first, last, words: 1 + next(100_000) }
        };
        (0..1000).map(&mut one).collect()
    }

    #[test]
    fn living_buffers_never_overlap() {
        let spans = random();
        for (at, room) in [in_order(&spans), by_size(&spans)] {
            assert!(at.iter().zip(&spans).all(|(at, span)| at + span.words <= room && at % ALIGN == 0));
            assert_eq!(super::super::check::overlap(&spans, &at), None);
        }
    }

    #[test]
    fn the_room_stays_near_what_lives() {
        let spans = random();
        let summed =
            |s: usize| -> usize { spans.iter().filter(|span| span.first <= s && s <= span.last).map(Span::room).sum() };
        let bound = (0..1600).map(summed).max().unwrap();
        assert_eq!(bound, super::bound(&spans));
        let room = offsets(&spans).1;
        // Random lifetimes fragment more than a training step's, which nest.
        assert!(room <= bound * 6 / 5, "{room} for {bound}");
    }
}
