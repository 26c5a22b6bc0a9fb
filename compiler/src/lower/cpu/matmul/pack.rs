//! Factors copied into the order in which the register tile reads them.
//!
//! A right factor becomes panels of 2 N columns, a left factor whose rows do not lie in order becomes strips of ROWS rows;
//! both term by term, 32 bits a term. What a panel or strip lacks at an edge is left as it is: nobody reads it.

use super::micro::width;
use crate::lower::cpu::lanes::{Kernel, Lanes, bf16};

/// A factor seen as terms of lanes: columns of a right factor, rows of a left one.
#[derive(Clone, Copy)]
pub struct Source<E> {
    /// The first lane of the first term.
    pub data: *const E,
    /// Distance of terms.
    pub term: usize,
    /// Distance of lanes.
    pub lane: usize,
}

impl<E> Source<E> {
    fn at(&self, term: usize, lane: usize) -> *const E {
        self.data.wrapping_add(term * self.term + lane * self.lane)
    }
}

/// What packing reads.
///
/// # Safety
/// All functions: the factor has these terms and lanes.
pub trait Terms: Copy {
    /// True if lanes lie side by side.
    fn in_order(&self) -> bool;
    /// N lanes of a term, which lie side by side.
    unsafe fn lanes<S: Lanes>(&self, term: usize, lane: usize) -> S::V;
    /// The bits of one lane of a term.
    unsafe fn bits(&self, term: usize, lane: usize) -> u32;
}

impl Terms for Source<f32> {
    #[inline(always)]
    fn in_order(&self) -> bool {
        self.lane == 1
    }

    #[inline(always)]
    unsafe fn lanes<S: Lanes>(&self, term: usize, lane: usize) -> S::V {
        unsafe { S::load(self.at(term, lane)) }
    }

    #[inline(always)]
    unsafe fn bits(&self, term: usize, lane: usize) -> u32 {
        unsafe { (*self.at(term, lane)).to_bits() }
    }
}

/// bf16, widened to f32.
impl Terms for Source<u16> {
    #[inline(always)]
    fn in_order(&self) -> bool {
        self.lane == 1
    }

    #[inline(always)]
    unsafe fn lanes<S: Lanes>(&self, term: usize, lane: usize) -> S::V {
        unsafe { S::load_bf16(self.at(term, lane)) }
    }

    #[inline(always)]
    unsafe fn bits(&self, term: usize, lane: usize) -> u32 {
        unsafe { u32::from(*self.at(term, lane)) << 16 }
    }
}

/// bf16, two neighbouring terms as one.
#[derive(Clone, Copy)]
pub struct Pairs {
    /// The single terms.
    pub source: Source<u16>,
    /// How many there are; the last of an odd number is paired with zero.
    pub singles: usize,
}

impl Terms for Pairs {
    #[inline(always)]
    fn in_order(&self) -> bool {
        self.source.lane == 1
    }

    #[inline(always)]
    unsafe fn lanes<S: Lanes>(&self, term: usize, lane: usize) -> S::V {
        unsafe {
            let first = self.source.at(2 * term, lane);
            if 2 * term + 1 < self.singles {
                S::pairs(first, self.source.at(2 * term + 1, lane))
            } else {
                const NONE: [u16; 32] = [0; 32];
                S::pairs(first, NONE.as_ptr())
            }
        }
    }

    #[inline(always)]
    unsafe fn bits(&self, term: usize, lane: usize) -> u32 {
        unsafe {
            let first = u32::from(*self.source.at(2 * term, lane));
            let second = if 2 * term + 1 < self.singles { *self.source.at(2 * term + 1, lane) } else { 0 };
            first | u32::from(second) << 16
        }
    }
}

/// f32 rounded to bf16, two neighbouring terms as one.
#[derive(Clone, Copy)]
pub struct RoundedPairs {
    /// The single terms.
    pub source: Source<f32>,
    /// How many there are; the last of an odd number is paired with zero.
    pub singles: usize,
}

impl Terms for RoundedPairs {
    #[inline(always)]
    fn in_order(&self) -> bool {
        self.source.lane == 1
    }

    #[inline(always)]
    unsafe fn lanes<S: Lanes>(&self, term: usize, lane: usize) -> S::V {
        unsafe {
            let first = S::load(self.source.at(2 * term, lane));
            let paired = 2 * term + 1 < self.singles;
            S::join(first, if paired { S::load(self.source.at(2 * term + 1, lane)) } else { S::zero() })
        }
    }

    #[inline(always)]
    unsafe fn bits(&self, term: usize, lane: usize) -> u32 {
        let half = |term: usize| unsafe { bf16(*self.source.at(term, lane)).to_bits() };
        half(2 * term) >> 16 | if 2 * term + 1 < self.singles { half(2 * term + 1) } else { 0 }
    }
}

/// Panels of a right factor: [panel][terms][width] to `to`.
#[derive(Clone, Copy)]
pub struct Panels<T> {
    /// Where from.
    pub from: T,
    /// Terms, of either kind.
    pub terms: usize,
    /// Columns of all panels.
    pub columns: usize,
    /// Where to.
    pub to: *mut f32,
}

impl<T: Terms> Kernel for Panels<T> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Lanes>(self) {
        let width = width::<S>();
        let whole = if self.from.in_order() { self.columns / width } else { 0 };
        unsafe {
            // Term by term, so that the factor is read as it lies.
            for t in 0..self.terms {
                for panel in 0..whole {
                    let to = self.to.add((panel * self.terms + t) * width);
                    S::store(to, self.from.lanes::<S>(t, panel * width));
                    S::store(to.add(S::N), self.from.lanes::<S>(t, panel * width + S::N));
                }
            }
            for first in (whole * width..self.columns).step_by(width) {
                let columns = width.min(self.columns - first);
                one_by_one(self.from, first, columns, self.terms, self.to.add(first * self.terms), width);
            }
        }
    }
}

/// Some terms of all lanes at a time: where terms lie side by side they share lines.
#[inline(always)]
unsafe fn one_by_one<T: Terms>(from: T, first: usize, lanes: usize, terms: usize, to: *mut f32, width: usize) {
    const GROUP: usize = 16;
    for group in (0..terms).step_by(GROUP) {
        for lane in 0..lanes {
            for t in group..(group + GROUP).min(terms) {
                // SAFETY: the caller's.
                unsafe { *to.add(t * width + lane) = f32::from_bits(from.bits(t, first + lane)) };
            }
        }
    }
}

/// Strips of a left factor: [strip][terms][ROWS] to `to`, each strip [`strip`] after the one before.
#[derive(Clone, Copy)]
pub struct Strips<T> {
    /// Where from.
    pub from: T,
    /// Terms, of either kind.
    pub terms: usize,
    /// Rows of all strips.
    pub rows: usize,
    /// Where to.
    pub to: *mut f32,
}

/// Numbers from strip to strip: those of its terms, and room for whole vectors at its end.
pub fn strip(rows: usize, terms: usize) -> usize {
    rows * terms + 16
}

impl<T: Terms> Kernel for Strips<T> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Lanes>(self) {
        let stride = strip(S::ROWS, self.terms);
        // Vectors hold more than a strip's rows; the next term, or the room at the end, takes the rest.
        let vectors = S::ROWS.div_ceil(S::N);
        let in_order = self.from.in_order();
        let whole = if in_order { (self.rows + S::ROWS).saturating_sub(vectors * S::N) / S::ROWS } else { 0 };
        unsafe {
            for t in 0..self.terms {
                let to = self.to.wrapping_add(t * S::ROWS);
                for s in 0..whole {
                    for v in 0..vectors {
                        S::store(to.add(s * stride + v * S::N), self.from.lanes::<S>(t, s * S::ROWS + v * S::N));
                    }
                }
            }
            for s in whole..self.rows.div_ceil(S::ROWS) {
                let (first, to) = (s * S::ROWS, self.to.add(s * stride));
                one_by_one(self.from, first, S::ROWS.min(self.rows - first), self.terms, to, S::ROWS);
            }
        }
    }
}

/// A piece of bf16 widened to f32.
pub struct Widen<'a> {
    /// Where from.
    pub from: &'a [u16],
    /// As many numbers.
    pub to: &'a mut [f32],
}

impl Kernel for Widen<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Lanes>(self) {
        assert_eq!(self.from.len(), self.to.len());
        let whole = self.from.len() / S::N * S::N;
        for at in (0..whole).step_by(S::N) {
            // SAFETY: inside both.
            unsafe { S::store(self.to.as_mut_ptr().add(at), S::load_bf16(self.from.as_ptr().add(at))) };
        }
        let rest = self.to[whole..].iter_mut().zip(&self.from[whole..]);
        rest.for_each(|(y, x)| *y = f32::from_bits(u32::from(*x) << 16));
    }
}

/// A piece of f32 rounded to bf16.
pub struct Narrow<'a> {
    /// Where from.
    pub from: &'a [f32],
    /// As many numbers.
    pub to: &'a mut [u16],
}

impl Kernel for Narrow<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Lanes>(self) {
        assert_eq!(self.from.len(), self.to.len());
        let whole = self.from.len() / S::N * S::N;
        for at in (0..whole).step_by(S::N) {
            // SAFETY: inside both.
            unsafe { S::store_bf16(self.to.as_mut_ptr().add(at), S::load(self.from.as_ptr().add(at))) };
        }
        let rest = self.to[whole..].iter_mut().zip(&self.from[whole..]);
        rest.for_each(|(y, x)| *y = (bf16(*x).to_bits() >> 16) as u16);
    }
}
