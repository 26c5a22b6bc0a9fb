//! Factors copied into the order in which the register tile reads them.
//!
//! A right factor becomes panels of 2 N columns, a left factor whose rows do not lie in order becomes strips of ROWS rows;
//! both term by term. What a panel or strip lacks at an edge is left as it is: nobody reads it.

use super::Matrix;
use crate::lower::cpu::lanes::{Kernel, Lanes};

/// Terms of b [k, n] from `term` on, `terms` of them, columns from `first` on: one panel to `to`, [terms][width].
pub struct Panel {
    /// [k, n]
    pub b: Matrix,
    /// The first term.
    pub term: usize,
    /// How many.
    pub terms: usize,
    /// The first column.
    pub first: usize,
    /// Columns, at most the width of a panel.
    pub columns: usize,
    /// Where to.
    pub to: *mut f32,
}

impl Kernel for Panel {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Lanes>(self) {
        let width = 2 * S::N;
        let from = self.b.data.wrapping_add(self.term * self.b.row + self.first * self.b.col);
        unsafe {
            if self.b.col == 1 && self.columns == width {
                for t in 0..self.terms {
                    let (from, to) = (from.add(t * self.b.row), self.to.add(t * width));
                    S::store(to, S::load(from));
                    S::store(to.add(S::N), S::load(from.add(S::N)));
                }
            } else {
                // Some terms of all columns at a time: where terms lie side by side they share lines.
                for t in (0..self.terms).step_by(16) {
                    for c in 0..self.columns {
                        for t in t..(t + 16).min(self.terms) {
                            *self.to.add(t * width + c) = *from.add(t * self.b.row + c * self.b.col);
                        }
                    }
                }
            }
        }
    }
}

/// All panels of a factor: b [k, n], terms from `term` on, columns from `first` on, each panel `stride` after the one before.
pub struct Panels {
    /// [k, n]
    pub b: Matrix,
    /// The first term.
    pub term: usize,
    /// How many.
    pub terms: usize,
    /// The first column.
    pub first: usize,
    /// Columns of all panels.
    pub columns: usize,
    /// Where to.
    pub to: *mut f32,
}

impl Kernel for Panels {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Lanes>(self) {
        let (b, width) = (self.b, 2 * S::N);
        let whole = if b.col == 1 { self.columns / width } else { 0 };
        let from = b.data.wrapping_add(self.term * b.row + self.first * b.col);
        unsafe {
            // Term by term, so that the factor is read as it lies.
            for t in 0..self.terms {
                let (from, to) = (from.wrapping_add(t * b.row), self.to.wrapping_add(t * width));
                for panel in 0..whole {
                    let (from, to) = (from.add(panel * width), to.add(panel * self.terms * width));
                    S::store(to, S::load(from));
                    S::store(to.add(S::N), S::load(from.add(S::N)));
                }
            }
            for at in (whole * width..self.columns).step_by(width) {
                let (first, columns) = (self.first + at, width.min(self.columns - at));
                let to = self.to.add(at * self.terms);
                Panel { b, term: self.term, terms: self.terms, first, columns, to }.run::<S>();
            }
        }
    }
}

/// Rows of a [m, k] from `first` on, terms from `term` on: strips to `to`, [strip][terms][ROWS], each strip [`strip`] after
/// the one before.
pub struct Strips {
    /// [m, k]
    pub a: Matrix,
    /// The first row.
    pub first: usize,
    /// Rows.
    pub rows: usize,
    /// The first term.
    pub term: usize,
    /// Terms.
    pub terms: usize,
    /// Where to.
    pub to: *mut f32,
}

/// Numbers from strip to strip: those of its terms, and room for whole vectors at its end.
pub fn strip(rows: usize, terms: usize) -> usize {
    rows * terms + 16
}

impl Kernel for Strips {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Lanes>(self) {
        let (a, terms) = (self.a, self.terms);
        let stride = strip(S::ROWS, terms);
        let from = a.data.wrapping_add(self.first * a.row + self.term * a.col);
        // Vectors hold more than a strip's rows; the next term, or the room at the end, takes the rest.
        let vectors = S::ROWS.div_ceil(S::N);
        let whole = if a.row == 1 { (self.rows + S::ROWS).saturating_sub(vectors * S::N) / S::ROWS } else { 0 };
        unsafe {
            for t in 0..terms {
                let (from, to) = (from.wrapping_add(t * a.col), self.to.wrapping_add(t * S::ROWS));
                for s in 0..whole {
                    for v in 0..vectors {
                        S::store(to.add(s * stride + v * S::N), S::load(from.add(s * S::ROWS + v * S::N)));
                    }
                }
            }
            for s in whole..self.rows.div_ceil(S::ROWS) {
                let rows = S::ROWS.min(self.rows - s * S::ROWS);
                let (from, to) = (from.wrapping_add(s * S::ROWS * a.row), self.to.add(s * stride));
                for t in (0..terms).step_by(16) {
                    for r in 0..rows {
                        for t in t..(t + 16).min(terms) {
                            *to.add(t * S::ROWS + r) = *from.add(r * a.row + t * a.col);
                        }
                    }
                }
            }
        }
    }
}
