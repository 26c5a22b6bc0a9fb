//! The register tile: a few rows times two vectors of columns, all terms of a sum in registers.
//!
//! The left factor is read where it lies, one number for a row and a term, broadcast: so rows of activations need no
//! packing. The right factor is read by vectors of columns: packed panels, or rows of a matrix in place. Every element
//! of a result is the sum of its terms in order, wherever it lies in a tile, so cutting a product by rows or columns
//! never changes a bit.

use crate::lower::cpu::lanes::{Kernel, Lanes, Pair, Set, Single, Term};

/// Left factor: 32-bit terms by row and term.
#[derive(Clone, Copy)]
pub struct Left {
    /// The first term of the first row.
    pub data: *const f32,
    /// Distance of rows.
    pub row: usize,
    /// Distance of terms.
    pub term: usize,
    /// Distance of strips of [`Lanes::ROWS`] rows.
    pub strip: usize,
}

impl Left {
    /// The rows from `i` on, the first of a strip.
    pub fn skip_rows(self, i: usize, set: Set) -> Left {
        assert!(i.is_multiple_of(set.rows()) || self.strip == set.rows() * self.row, "compiler bug: within a strip");
        let at = if self.strip == set.rows() * self.row { i * self.row } else { i / set.rows() * self.strip };
        Left { data: self.data.wrapping_add(at), ..self }
    }

    /// Row `i`.
    #[inline(always)]
    fn at<S: Lanes>(self, i: usize) -> Left {
        Left { data: self.data.wrapping_add(i / S::ROWS * self.strip + i % S::ROWS * self.row), ..self }
    }
}

/// Right factor: panels of [`width`] columns.
#[derive(Clone, Copy)]
pub struct Right {
    /// The first term of the first column.
    pub data: *const f32,
    /// Distance of terms.
    pub term: usize,
    /// Distance of panels.
    pub panel: usize,
}

/// c [m, n] = a [m, k] b [k, n] with k terms of either kind, plus what is there if `add`; single-threaded.
#[derive(Clone, Copy)]
pub struct Block {
    /// [m, k]
    pub a: Left,
    /// [k, n]
    pub b: Right,
    /// The first element of the result.
    pub c: *mut f32,
    /// Distance of the result's rows.
    pub row: usize,
    /// Rows.
    pub m: usize,
    /// Columns.
    pub n: usize,
    /// Terms.
    pub k: usize,
    /// Add to the result.
    pub add: bool,
    /// What a term is.
    pub kind: Kind,
}

/// Columns of a panel.
pub const fn width<S: Lanes>() -> usize {
    2 * S::N
}

/// What 32 bits of a factor hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One f32.
    Single,
    /// Two bf16, of neighbouring terms.
    Pair,
}

impl Kernel for Block {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Lanes>(self) {
        match self.kind {
            Kind::Single => unsafe { self.tiles::<S, Single>() },
            Kind::Pair => unsafe { self.tiles::<S, Pair>() },
        }
    }
}

impl Block {
    /// Panel by panel, so that one stays in the first cache while the rows go by.
    #[inline(always)]
    unsafe fn tiles<S: Lanes, T: Term>(self) {
        let width = width::<S>();
        for (p, j) in (0..self.n).step_by(width).enumerate() {
            let columns = width.min(self.n - j);
            let b = Right { data: self.b.data.wrapping_add(p * self.b.panel), ..self.b };
            let mut i = 0;
            while i < self.m {
                let a = self.a.at::<S>(i);
                let c = self.c.wrapping_add(i * self.row + j);
                let tile = Tile { a, b, c, row: self.row, k: self.k, add: self.add };
                // SAFETY: the tile lies in the block.
                i += unsafe { rows::<S, T>(tile, self.m - i, columns) };
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Tile {
    a: Left,
    b: Right,
    c: *mut f32,
    row: usize,
    k: usize,
    add: bool,
}

/// Multiplies as many rows as a tile takes, and says how many.
#[inline(always)]
unsafe fn rows<S: Lanes, T: Term>(tile: Tile, left: usize, columns: usize) -> usize {
    unsafe {
        if S::ROWS >= 12 && left >= 12 {
            vectors::<S, T, 12>(tile, columns);
            12
        } else if S::ROWS >= 6 && left >= 6 {
            vectors::<S, T, 6>(tile, columns);
            6
        } else if left >= 3 {
            vectors::<S, T, 3>(tile, columns);
            3
        } else {
            vectors::<S, T, 1>(tile, columns);
            1
        }
    }
}

#[inline(always)]
unsafe fn vectors<S: Lanes, T: Term, const M: usize>(tile: Tile, columns: usize) {
    unsafe {
        if columns == 2 * S::N {
            micro::<S, T, M, 2, false>(tile, 0);
        } else if columns > S::N {
            micro::<S, T, M, 2, true>(tile, columns - S::N);
        } else if columns == S::N {
            micro::<S, T, M, 1, false>(tile, 0);
        } else {
            micro::<S, T, M, 1, true>(tile, columns);
        }
    }
}

/// The last of V vectors has `part` columns if P.
#[inline(always)]
unsafe fn micro<S: Lanes, T: Term, const M: usize, const V: usize, const P: bool>(t: Tile, part: usize) {
    let last = |v: usize| P && v == V - 1;
    unsafe {
        let mut sums = [[S::zero(); V]; M];
        let (mut a, mut b) = (t.a.data, t.b.data);
        for _ in 0..t.k {
            let mut columns = [S::zero(); V];
            for v in 0..V {
                let at = b.wrapping_add(v * S::N);
                columns[v] = if last(v) { S::load_part(at, part) } else { S::load(at) };
            }
            for i in 0..M {
                // Pairs of bf16 read in place may begin between two 32-bit places.
                let factor = S::splat(a.wrapping_add(i * t.a.row).read_unaligned());
                for v in 0..V {
                    sums[i][v] = T::mac::<S>(factor, columns[v], sums[i][v]);
                }
            }
            a = a.wrapping_add(t.a.term);
            b = b.wrapping_add(t.b.term);
        }
        for i in 0..M {
            for v in 0..V {
                let at = t.c.wrapping_add(i * t.row + v * S::N);
                let mut sum = sums[i][v];
                if last(v) {
                    if t.add {
                        sum = S::add(S::load_part(at, part), sum);
                    }
                    S::store_part(at, sum, part);
                } else {
                    if t.add {
                        sum = S::add(S::load(at), sum);
                    }
                    S::store(at, sum);
                }
            }
        }
    }
}
