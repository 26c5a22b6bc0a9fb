//! Matrix products: packed panels, register tiles, and a fixed way of cutting them.
//!
//! A product of rows with a weight packs the weight once, in panels, and reads the rows where they lie; its tasks are
//! blocks of rows. A product whose sum runs over rows (a weight's gradient) has tiles of the result and cuts of the sum
//! as tasks; the cuts are added in order. How a product is cut follows from its sizes alone, never from the number of
//! threads, so the bits do not depend on it.
//!
//! Factors are f32 or bf16, sums f32. Two factors in bf16 are multiplied in pairs where the processor has instructions
//! for it; otherwise bf16 is widened while it is packed, or a block of rows at a time.

pub mod micro;
pub mod pack;
mod sum;
#[cfg(test)]
mod tests;

use super::lanes::{Set, dispatch_to};
use super::parallel::{CHUNK, each, pieces, scratch};
use super::place::Shared;
use micro::{Block, Kind, Left, Right};
use pack::{Narrow, Pairs, Panels, RoundedPairs, Source, Strips, Widen, strip};

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
    fn in_rows(self) -> bool {
        match self {
            Factor::F32(m) => m.col == 1,
            Factor::Bf16(m) => m.col == 1,
        }
    }
}

/// a [m, k] b [k, n].
#[derive(Clone, Copy)]
pub struct Product {
    /// [m, k]
    pub a: Factor,
    /// [k, n]
    pub b: Factor,
    /// Rows.
    pub m: usize,
    /// Columns.
    pub n: usize,
    /// Terms of a sum.
    pub k: usize,
    /// Add to the result's present content, which is f32 then.
    pub add: bool,
}

// SAFETY: operands are only read, and the plan keeps them unchanged while a product runs.
unsafe impl Send for Product {}
unsafe impl Sync for Product {}

impl Product {
    /// How the factors are multiplied.
    fn kind(&self, set: Set) -> Kind {
        kind(set, &[self.a, self.b])
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
    data: *mut E,
    row: usize,
}

// SAFETY: tasks write rows or tiles of their own.
unsafe impl<E> Send for Rows<E> {}
unsafe impl<E> Sync for Rows<E> {}

impl<E> Rows<E> {
    /// The first element of row `i`.
    fn at(&self, i: usize) -> *mut E {
        self.data.wrapping_add(i * self.row)
    }

    /// Row `i`.
    ///
    /// # Safety
    /// The result has the row, and nobody else uses it now.
    #[allow(clippy::mut_from_ref, reason = "rows are disjoint")]
    unsafe fn get(&self, i: usize, n: usize) -> &mut [E] {
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

/// What is done to a row of the result as soon as it is there, while it is in the cache.
pub type After<'a> = &'a (dyn Fn(&mut [f32]) + Sync);

/// Rows of a block: a multiple of every set's tile, and with some hundred columns still in the second cache.
const ROWS: usize = 48;
/// Most terms that are summed in registers at a time: a panel of them fits the first cache, beside the rows it meets.
const TERMS: usize = 320;
/// Products with fewer multiplications are one task.
const SMALL: usize = 1 << 18;

/// Writes a product.
///
/// # Safety
/// Operands and result lie where they say, and the result overlaps no operand.
pub unsafe fn product(p: &Product, out: Out, after: After) {
    if p.m == 0 || p.n == 0 {
        return;
    }
    let set = Set::best();
    let kind = p.kind(set);
    if p.a.in_rows() || p.m * p.n * p.k <= SMALL {
        rows_product(set, kind, p, out, after);
        return;
    }
    match out {
        Out::F32(out) => {
            sum::sum_product(set, kind, p, out.data, out.row);
            pieces(p.m, (CHUNK / p.n).max(1), |from, to| {
                // SAFETY: rows do not overlap.
                (from..to).for_each(|i| after(unsafe { out.get(i, p.n) }));
            });
        }
        Out::Bf16(out) => scratch(p.m * p.n, |whole| {
            sum::sum_product(set, kind, p, whole.as_mut_ptr(), p.n);
            let whole = Shared::new(whole);
            pieces(p.m, (CHUNK / p.n).max(1), |from, to| {
                for i in from..to {
                    // SAFETY: rows do not overlap.
                    unsafe { finish(set, whole.part(i * p.n, p.n), out.get(i, p.n), after) };
                }
            });
        }),
    }
}

/// The last work on a row of f32, and its rounding to bf16.
fn finish(set: Set, row: &mut [f32], to: &mut [u16], after: After) {
    after(row);
    // SAFETY: the set is available.
    unsafe { dispatch_to(set, Narrow { from: row, to }) };
}

/// `n` in parts of at most `most`, as even as multiples of `of` allow.
fn even(n: usize, most: usize, of: usize) -> usize {
    n.div_ceil(n.div_ceil(most.max(1)).max(1)).next_multiple_of(of)
}

/// Single terms of a 32-bit term.
pub fn singles(kind: Kind) -> usize {
    match kind {
        Kind::Single => 1,
        Kind::Pair => 2,
    }
}

/// Blocks of rows times a whole packed factor.
fn rows_product(set: Set, kind: Kind, p: &Product, out: Out, after: After) {
    let width = 2 * set.lanes();
    let panels = p.n.div_ceil(width);
    // Terms of either kind.
    let k = p.k.div_ceil(singles(kind));
    let terms = even(k, TERMS, 1).max(1);
    let cuts = k.div_ceil(terms);
    let one_task = p.m * p.n * p.k <= SMALL;
    let block = if one_task { p.m } else { ROWS };
    scratch(k * panels * width, |packed| {
        let packed = Shared::new(packed);
        let pack = |task: usize| {
            let (cut, panel) = (task / panels, task % panels);
            let (term, first) = (cut * terms, panel * width);
            let count = terms.min(k - term);
            // SAFETY: panels do not overlap.
            let to = unsafe { packed.part((term * panels + panel * count) * width, count * width) };
            let from = p.b.part(term * singles(kind), first);
            pack_right(set, kind, from, p.k - term * singles(kind), count, width.min(p.n - first), to);
        };
        let sum = |first: usize, rows: usize, c: *mut f32, row: usize| {
            if k == 0 && !p.add {
                // SAFETY: blocks of rows do not overlap.
                (0..rows).for_each(|i| unsafe { std::slice::from_raw_parts_mut(c.add(i * row), p.n) }.fill(0.0));
            }
            let a = p.a.part(first, 0);
            scratch(rows_room(set, kind, a, rows, p.k), |room| {
                let a = rows_in_order(set, kind, a, rows, p.k, room);
                for term in (0..k).step_by(terms) {
                    let count = terms.min(k - term);
                    let a = Left { data: a.data.wrapping_add(term * a.term), ..a };
                    let data = packed.pointer().wrapping_add(term * panels * width);
                    let b = Right { data, term: width, panel: count * width };
                    let block = Block { a, b, c, row, m: rows, n: p.n, k: count, add: p.add || term > 0, kind };
                    // SAFETY: blocks of rows do not overlap; everything is packed.
                    unsafe { dispatch_to(set, block) };
                }
            });
        };
        let multiply = |task: usize| {
            let first = task * block;
            let rows = block.min(p.m - first);
            match out {
                Out::F32(out) => {
                    sum(first, rows, out.at(first), out.row);
                    // SAFETY: as above.
                    (first..first + rows).for_each(|i| after(unsafe { out.get(i, p.n) }));
                }
                Out::Bf16(out) => scratch(rows * p.n, |c| {
                    assert!(!p.add, "compiler bug: sums in bf16 are not added to");
                    sum(first, rows, c.as_mut_ptr(), p.n);
                    for (i, c) in c.chunks_exact_mut(p.n).enumerate() {
                        // SAFETY: as above.
                        unsafe { finish(set, c, out.get(first + i, p.n), after) };
                    }
                }),
            }
        };
        if one_task {
            (0..cuts * panels).for_each(pack);
            multiply(0);
        } else {
            each(cuts * panels, pack);
            each(p.m.div_ceil(block), multiply);
        }
    });
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
