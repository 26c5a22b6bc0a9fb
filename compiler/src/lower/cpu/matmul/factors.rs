//! Factors and results of products, in f32 or bf16, and how factors are made ready.

use super::micro::{Kind, Left};
use super::pack::{Narrow, Pairs, Panels, RoundedPairs, Source, Strips, Widen, strip};
use crate::lower::cpu::lanes::{Set, dispatch_to};

/// A matrix anywhere in memory.
#[derive(Clone, Copy)]
pub struct Matrix<E = f32> {
    /// The first element.
    pub data: *const E,
    /// Distance of rows.
    pub row: usize,
    /// Distance of columns.
    pub col: usize,
}

impl<E> Matrix<E> {
    fn part(self, row: usize, col: usize) -> Matrix<E> {
        Matrix { data: self.data.wrapping_add(row * self.row + col * self.col), ..self }
    }

    /// Rows are terms, columns lanes.
    fn right(self) -> Source<E> {
        Source { data: self.data, term: self.row, lane: self.col }
    }

    /// Columns are terms, rows lanes.
    fn left(self) -> Source<E> {
        Source { data: self.data, term: self.col, lane: self.row }
    }
}

/// A factor of a product.
#[derive(Clone, Copy)]
pub enum Factor {
    /// In f32.
    F32(Matrix<f32>),
    /// In bf16.
    Bf16(Matrix<u16>),
}

impl Factor {
    /// The part from a row and a column on.
    pub fn part(self, row: usize, col: usize) -> Factor {
        match self {
            Factor::F32(m) => Factor::F32(m.part(row, col)),
            Factor::Bf16(m) => Factor::Bf16(m.part(row, col)),
        }
    }

    /// Rows as columns.
    pub fn transposed(self) -> Factor {
        match self {
            Factor::F32(m) => Factor::F32(Matrix { row: m.col, col: m.row, ..m }),
            Factor::Bf16(m) => Factor::Bf16(Matrix { row: m.col, col: m.row, ..m }),
        }
    }

    /// The first numbers of row `i`, widened.
    ///
    /// # Safety
    /// The factor has them.
    pub unsafe fn read_row(self, set: Set, i: usize, to: &mut [f32]) {
        let n = to.len();
        unsafe {
            match self.part(i, 0) {
                Factor::F32(m) if m.col == 1 => to.copy_from_slice(std::slice::from_raw_parts(m.data, n)),
                Factor::Bf16(m) if m.col == 1 => {
                    dispatch_to(set, Widen { from: std::slice::from_raw_parts(m.data, n), to });
                }
                Factor::F32(m) => to.iter_mut().enumerate().for_each(|(j, y)| *y = *m.part(0, j).data),
                Factor::Bf16(m) => {
                    let wide = |j: usize| f32::from_bits(u32::from(*m.part(0, j).data) << 16);
                    to.iter_mut().enumerate().for_each(|(j, y)| *y = wide(j));
                }
            }
        }
    }

    /// True if the elements of a row lie side by side.
    pub fn in_rows(self) -> bool {
        match self {
            Factor::F32(m) => m.col == 1,
            Factor::Bf16(m) => m.col == 1,
        }
    }
}

/// How factors are multiplied: in pairs if all are bf16 and the processor can.
pub fn kind(set: Set, factors: &[Factor]) -> Kind {
    let narrow = factors.iter().all(|f| matches!(f, Factor::Bf16(_)));
    if narrow && set.multiplies_pairs() { Kind::Pair } else { Kind::Single }
}

/// Rows of a result.
#[derive(Clone, Copy)]
pub struct Rows<E> {
    pub(super) data: *mut E,
    pub(super) row: usize,
}

// SAFETY: tasks write rows or tiles of their own.
unsafe impl<E> Send for Rows<E> {}
unsafe impl<E> Sync for Rows<E> {}

impl<E> Rows<E> {
    /// The first element of row `i`.
    pub(super) fn at(&self, i: usize) -> *mut E {
        self.data.wrapping_add(i * self.row)
    }

    /// Row `i`.
    ///
    /// # Safety
    /// The result has the row, and nobody else uses it now.
    #[allow(clippy::mut_from_ref, reason = "rows are disjoint")]
    pub(super) unsafe fn get(&self, i: usize, n: usize) -> &mut [E] {
        unsafe { std::slice::from_raw_parts_mut(self.at(i), n) }
    }
}

/// A row-major result.
#[derive(Clone, Copy)]
pub enum Out {
    /// In f32.
    F32(Rows<f32>),
    /// In bf16.
    Bf16(Rows<u16>),
}

impl Out {
    /// A result in f32 with so many elements from row to row.
    pub fn f32(data: *mut f32, row: usize) -> Out {
        Out::F32(Rows { data, row })
    }

    /// Writes row `i`.
    ///
    /// # Safety
    /// The result has the row, and nobody else uses it now.
    pub unsafe fn write_row(self, set: Set, i: usize, from: &[f32]) {
        unsafe {
            match self {
                Out::F32(rows) => rows.get(i, from.len()).copy_from_slice(from),
                Out::Bf16(rows) => dispatch_to(set, Narrow { from, to: rows.get(i, from.len()) }),
            }
        }
    }

    /// A result in bf16.
    pub fn bf16(data: *mut u16, row: usize) -> Out {
        Out::Bf16(Rows { data, row })
    }
}

/// Single terms of a 32-bit term.
pub fn singles(kind: Kind) -> usize {
    match kind {
        Kind::Single => 1,
        Kind::Pair => 2,
    }
}

/// Numbers that [`rows_in_order`] needs for `rows` rows of `k` single terms.
pub fn rows_room(set: Set, kind: Kind, a: Factor, rows: usize, k: usize) -> usize {
    match a {
        Factor::F32(a) if kind == Kind::Single && a.col == 1 => 0,
        Factor::Bf16(a) if kind == Kind::Pair && whole_pairs(a, k) => 0,
        Factor::Bf16(a) if kind == Kind::Single && a.col == 1 => rows * k,
        Factor::F32(_) | Factor::Bf16(_) => rows.div_ceil(set.rows()) * strip(set.rows(), k.div_ceil(singles(kind))),
    }
}

/// True if rows hold whole pairs at whole distances.
fn whole_pairs(a: Matrix<u16>, k: usize) -> bool {
    a.col == 1 && k.is_multiple_of(2) && a.row.is_multiple_of(2)
}

/// Some rows of a left factor: where they are if their terms lie in order; else in `room`, widened or as strips.
pub fn rows_in_order(set: Set, kind: Kind, a: Factor, rows: usize, k: usize, room: &mut [f32]) -> Left {
    let tile = set.rows();
    match a {
        Factor::F32(a) if kind == Kind::Single && a.col == 1 => {
            Left { data: a.data, row: a.row, term: 1, strip: tile * a.row }
        }
        Factor::Bf16(a) if kind == Kind::Pair && whole_pairs(a, k) => {
            Left { data: a.data.cast(), row: a.row / 2, term: 1, strip: tile * a.row / 2 }
        }
        Factor::Bf16(m) if kind == Kind::Single && m.col == 1 => {
            for (i, to) in room.chunks_exact_mut(k.max(1)).take(rows).enumerate() {
                // SAFETY: the factor has these rows.
                unsafe { a.read_row(set, i, to) };
            }
            Left { data: room.as_ptr(), row: k, term: 1, strip: tile * k }
        }
        Factor::F32(_) | Factor::Bf16(_) => {
            let terms = k.div_ceil(singles(kind));
            pack_left(set, kind, a, k, terms, rows, room);
            Left { data: room.as_ptr(), row: 1, term: tile, strip: strip(tile, terms) }
        }
    }
}

/// Packs `terms` terms (of either kind, from `singles` that are left) of some columns into panels.
pub fn pack_right(set: Set, kind: Kind, b: Factor, singles: usize, terms: usize, columns: usize, to: &mut [f32]) {
    assert!(to.len() >= terms * columns.next_multiple_of(2 * set.lanes()), "compiler bug: no room for panels");
    let to = to.as_mut_ptr();
    // SAFETY: there is room for the panels; the factor has these terms.
    unsafe {
        match (kind, b) {
            (Kind::Single, Factor::F32(b)) => dispatch_to(set, Panels { from: b.right(), terms, columns, to }),
            (Kind::Single, Factor::Bf16(b)) => dispatch_to(set, Panels { from: b.right(), terms, columns, to }),
            (Kind::Pair, Factor::Bf16(b)) => {
                dispatch_to(set, Panels { from: Pairs { source: b.right(), singles }, terms, columns, to });
            }
            (Kind::Pair, Factor::F32(b)) => {
                dispatch_to(set, Panels { from: RoundedPairs { source: b.right(), singles }, terms, columns, to });
            }
        }
    }
}

/// Packs `terms` terms of some rows into strips.
pub fn pack_left(set: Set, kind: Kind, a: Factor, singles: usize, terms: usize, rows: usize, to: &mut [f32]) {
    assert!(to.len() >= rows.div_ceil(set.rows()) * strip(set.rows(), terms), "compiler bug: no room for strips");
    let to = to.as_mut_ptr();
    // SAFETY: there is room for the strips; the factor has these terms.
    unsafe {
        match (kind, a) {
            (Kind::Single, Factor::F32(a)) => dispatch_to(set, Strips { from: a.left(), terms, rows, to }),
            (Kind::Single, Factor::Bf16(a)) => dispatch_to(set, Strips { from: a.left(), terms, rows, to }),
            (Kind::Pair, Factor::Bf16(a)) => {
                dispatch_to(set, Strips { from: Pairs { source: a.left(), singles }, terms, rows, to });
            }
            (Kind::Pair, Factor::F32(a)) => {
                dispatch_to(set, Strips { from: RoundedPairs { source: a.left(), singles }, terms, rows, to });
            }
        }
    }
}
