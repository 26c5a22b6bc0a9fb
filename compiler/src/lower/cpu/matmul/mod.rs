//! Matrix products: packed panels, register tiles, and a fixed way of cutting them.
//!
//! A product of rows with a weight packs the weight once, in panels, and reads the rows where they lie; its tasks are
//! blocks of rows. A product whose sum runs over rows (a weight's gradient) has tiles of the result and cuts of the sum
//! as tasks; the cuts are added in order. How a product is cut follows from its sizes alone, never from the number of
//! threads, so the bits do not depend on it.

pub mod micro;
pub mod pack;
#[cfg(test)]
mod tests;

use super::lanes::{Set, Single, dispatch_to};
use super::parallel::{CHUNK, Shared, each, pieces, scratch, simd};
use micro::{Block, Left, Right};
use pack::{Panel, Panels, Strips, strip};

/// A matrix anywhere in memory.
#[derive(Clone, Copy)]
pub struct Matrix {
    /// The first element.
    pub data: *const f32,
    /// Distance of rows.
    pub row: usize,
    /// Distance of columns.
    pub col: usize,
}

/// a [m, k] b [k, n].
#[derive(Clone, Copy)]
pub struct Product {
    /// [m, k]
    pub a: Matrix,
    /// [k, n]
    pub b: Matrix,
    /// Rows.
    pub m: usize,
    /// Columns.
    pub n: usize,
    /// Terms of a sum.
    pub k: usize,
    /// Add to the result's present content.
    pub add: bool,
}

// SAFETY: operands are only read, and the plan keeps them unchanged while a product runs.
unsafe impl Send for Product {}
unsafe impl Sync for Product {}

/// What is done to rows of the result as soon as they are there, while they are in the cache: first row, last row.
pub type After<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// Rows of a block: a multiple of every set's tile, and with some hundred columns still in the second cache.
const ROWS: usize = 96;
/// Most terms that are summed in registers at a time: a panel of them fits the first cache, beside the rows it meets.
const TERMS: usize = 320;
/// Most rows and columns of a tile of a long sum, and its terms at a time.
const TILE: (usize, usize, usize) = (288, 384, 256);
/// Tasks that a long sum is cut into at least, if its parts are long enough.
const CUTS: usize = 16;
/// Fewest terms of a part of a long sum.
const PART: usize = 256;
/// Products with fewer multiplications are one task.
const SMALL: usize = 1 << 18;

/// Writes a product to `out`, row-major with `row` elements from row to row.
///
/// # Safety
/// Operands and result lie where they say, and the result overlaps no operand.
pub unsafe fn product(p: &Product, out: *mut f32, row: usize, after: After) {
    if p.m == 0 || p.n == 0 {
        return;
    }
    let out = Shared::new(unsafe { std::slice::from_raw_parts_mut(out, (p.m - 1) * row + p.n) });
    if p.k == 0 {
        if !p.add {
            // SAFETY: rows do not overlap.
            (0..p.m).for_each(|i| unsafe { out.part(i * row, p.n) }.fill(0.0));
        }
        after(0, p.m);
    } else if p.a.col == 1 || p.m * p.n * p.k <= SMALL {
        rows_product(Set::best(), p, out, row, after);
    } else {
        sum_product(Set::best(), p, out, row);
        pieces(p.m, (CHUNK / p.n).max(1), after);
    }
}

/// `n` in parts of at most `most`, as even as multiples of `of` allow.
fn even(n: usize, most: usize, of: usize) -> usize {
    n.div_ceil(n.div_ceil(most)).next_multiple_of(of)
}

/// Blocks of rows times a whole packed factor.
fn rows_product(set: Set, p: &Product, out: Shared, row: usize, after: After) {
    let width = 2 * set.lanes();
    let panels = p.n.div_ceil(width);
    let terms = even(p.k, TERMS, 1);
    let cuts = p.k.div_ceil(terms);
    let one_task = p.m * p.n * p.k <= SMALL;
    let block = if one_task { p.m } else { ROWS };
    scratch(p.k * panels * width, |packed| {
        let packed = Shared::new(packed);
        let pack = |task: usize| {
            let (cut, panel) = (task / panels, task % panels);
            let (term, first) = (cut * terms, panel * width);
            let count = terms.min(p.k - term);
            // SAFETY: panels do not overlap.
            let to = unsafe { packed.part((term * panels + panel * count) * width, count * width) };
            let columns = width.min(p.n - first);
            let panel = Panel { b: p.b, term, terms: count, first, columns, to: to.as_mut_ptr() };
            unsafe { dispatch_to(set, panel) };
        };
        let multiply = |task: usize| {
            let first = task * block;
            let rows = block.min(p.m - first);
            in_order(p.a.col == 1, set, p, first, rows, |a| {
                for term in (0..p.k).step_by(terms) {
                    let count = terms.min(p.k - term);
                    let a = Left { data: a.data.wrapping_add(term * a.term), ..a };
                    let data = packed.pointer().wrapping_add(term * panels * width);
                    let b = Right { data, term: width, panel: count * width };
                    let c = out.pointer().wrapping_add(first * row);
                    let add = p.add || term > 0;
                    // SAFETY: blocks of rows do not overlap; everything is packed.
                    unsafe { dispatch_to(set, Block { a, b, c, row, m: rows, n: p.n, k: count, add, term: Single }) };
                }
            });
            after(first, first + rows);
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

/// Some rows of the left factor, where they are or, unless their terms lie in order, as strips.
fn in_order(as_is: bool, set: Set, p: &Product, first: usize, rows: usize, then: impl FnOnce(Left)) {
    let tile = set.rows();
    if as_is {
        let data = p.a.data.wrapping_add(first * p.a.row);
        return then(Left { data, row: p.a.row, term: 1, strip: tile * p.a.row });
    }
    scratch(rows.div_ceil(tile) * strip(tile, p.k), |to| {
        let strips = Strips { a: p.a, first, rows, term: 0, terms: p.k, to: to.as_mut_ptr() };
        // SAFETY: there is room for the strips.
        unsafe { dispatch_to(set, strips) };
        then(Left { data: to.as_ptr(), row: 1, term: tile, strip: strip(tile, p.k) });
    });
}

/// Tiles of the result and cuts of a long sum.
fn sum_product(set: Set, p: &Product, out: Shared, row: usize) {
    let (tile_m, tile_n) = (even(p.m, TILE.0, 12), even(p.n, TILE.1, 32));
    let (down, across) = (p.m.div_ceil(tile_m), p.n.div_ceil(tile_n));
    let cuts = CUTS.div_ceil(down * across).min(p.k.div_ceil(PART));
    let terms = even(p.k, p.k.div_ceil(cuts), 8);
    let cuts = p.k.div_ceil(terms);
    if cuts == 1 {
        each(down * across, |t| {
            let at = Tile { i: t / across * tile_m, j: t % across * tile_n, term: 0, terms: p.k };
            let c = out.pointer().wrapping_add(at.i * row + at.j);
            tile(set, p, at, tile_m, tile_n, c, row, p.add);
        });
        return;
    }
    let size = p.m * p.n;
    scratch(cuts * size, |parts| {
        let parts = Shared::new(parts);
        each(down * across * cuts, |t| {
            let (cut, t) = (t / (down * across), t % (down * across));
            let term = cut * terms;
            let at = Tile { i: t / across * tile_m, j: t % across * tile_n, term, terms: terms.min(p.k - term) };
            let c = parts.pointer().wrapping_add(cut * size + at.i * p.n + at.j);
            tile(set, p, at, tile_m, tile_n, c, p.n, false);
        });
        pieces(p.m, (CHUNK / p.n).max(1), |from, to| {
            for i in from..to {
                // SAFETY: rows do not overlap, and all parts are written.
                let (y, part) = unsafe { (out.part(i * row, p.n), parts.part(i * p.n, (cuts - 1) * size + p.n)) };
                add_parts(y, part, size, p.add);
            }
        });
    });
}

simd! {
    /// y = the sum of parts, `size` from one to the next, in order; plus y if `add`.
    fn add_parts(y: &mut [f32], parts: &[f32], size: usize, add: bool) { <FMA>
        let _ = FMA;
        const LANES: usize = 16;
        let n = y.len();
        for at in (0..n).step_by(LANES) {
            let lanes = LANES.min(n - at);
            let y = &mut y[at..at + lanes];
            let mut sums = [0.0f32; LANES];
            if add {
                sums[..lanes].copy_from_slice(y);
            }
            for part in (at..parts.len()).step_by(size) {
                if let Ok(part) = <&[f32; LANES]>::try_from(&parts[part..(part + lanes).min(parts.len())]) {
                    for i in 0..LANES {
                        sums[i] += part[i];
                    }
                } else {
                    sums.iter_mut().zip(&parts[part..part + lanes]).for_each(|(s, p)| *s += p);
                }
            }
            y.copy_from_slice(&sums[..lanes]);
        }
    }
}

/// Where a tile is.
#[derive(Clone, Copy)]
struct Tile {
    i: usize,
    j: usize,
    term: usize,
    terms: usize,
}

/// One tile of one cut, single-threaded: both factors packed some terms at a time.
#[allow(clippy::too_many_arguments, reason = "a tile is a place in a product and a place in a result")]
fn tile(set: Set, p: &Product, at: Tile, tile_m: usize, tile_n: usize, c: *mut f32, row: usize, add: bool) {
    let (m, n) = (tile_m.min(p.m - at.i), tile_n.min(p.n - at.j));
    let (height, width) = (set.rows(), 2 * set.lanes());
    let most = even(at.terms, TILE.2, 8).min(at.terms);
    let (strips, panels) = (m.div_ceil(height), n.div_ceil(width));
    scratch(strips * strip(height, most) + panels * width * most, |room| {
        let (a, b) = room.split_at_mut(strips * strip(height, most));
        for term in (0..at.terms).step_by(most) {
            let count = most.min(at.terms - term);
            // SAFETY: there is room for all strips and panels; tiles do not overlap.
            unsafe {
                let first = at.term + term;
                dispatch_to(
                    set,
                    Strips { a: p.a, first: at.i, rows: m, term: first, terms: count, to: a.as_mut_ptr() },
                );
                let to = b.as_mut_ptr();
                dispatch_to(set, Panels { b: p.b, term: first, terms: count, first: at.j, columns: n, to });
                let a = Left { data: a.as_ptr(), row: 1, term: height, strip: strip(height, count) };
                let b = Right { data: b.as_ptr(), term: width, panel: count * width };
                dispatch_to(set, Block { a, b, c, row, m, n, k: count, add: add || term > 0, term: Single });
            }
        }
    });
}

/// Packs all of b [k, n] into panels, which `to` must have room for.
pub fn pack_panels(set: Set, b: Matrix, k: usize, n: usize, to: &mut [f32]) {
    let width = 2 * set.lanes();
    assert!(to.len() >= k * n.next_multiple_of(width), "compiler bug: {} numbers for panels of {k} x {n}", to.len());
    // SAFETY: there is room for the panels.
    unsafe { dispatch_to(set, Panels { b, term: 0, terms: k, first: 0, columns: n, to: to.as_mut_ptr() }) };
}
