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

/// Rows of a [m, k] from `first` on, terms from `term` on: strips to `to`, [strip][terms][ROWS]. Room for `slack` numbers
/// more is written.
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

/// Numbers beyond the strips that may be written.
pub const SLACK: usize = 16;

impl Kernel for Strips {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Lanes>(self) {
        let (a, terms) = (self.a, self.terms);
        for first in (0..self.rows).step_by(S::ROWS) {
            let rows = S::ROWS.min(self.rows - first);
            let from = a.data.wrapping_add((self.first + first) * a.row + self.term * a.col);
            let to = self.to.wrapping_add(first * terms);
            unsafe {
                if a.row == 1 && rows == S::ROWS && first + 16 <= self.rows {
                    // A few rows more than a strip has: the next term, or the next strip, writes over them.
                    for t in 0..terms {
                        let (from, to) = (from.add(t * a.col), to.add(t * S::ROWS));
                        S::store(to, S::load(from));
                        if S::N < S::ROWS {
                            S::store(to.add(S::N), S::load(from.add(S::N)));
                        }
                    }
                } else {
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
}
