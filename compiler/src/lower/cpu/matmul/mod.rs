//! Matrix products: packed panels, register tiles, and a fixed way of cutting them.
//!
//! A product of rows with a weight packs the weight once, in panels, and reads the rows where they lie; its tasks are
//! blocks of rows. A product whose sum runs over rows (a weight's gradient) has tiles of the result and cuts of the sum
//! as tasks; the cuts are added in order. How a product is cut follows from its sizes alone, never from the number of
//! threads, so the bits do not depend on it.
//!
//! Factors are f32 or bf16, sums f32. Two factors in bf16 are multiplied in pairs where the processor has instructions
//! for it; otherwise bf16 is widened while it is packed, or a block of rows at a time.

mod factors;
pub mod micro;
pub mod pack;
mod rows;
mod sum;
#[cfg(test)]
mod tests;

use super::lanes::{Set, dispatch_to};
use super::parallel::{CHUNK, pieces, scratch};
use super::place::Shared;
use super::scratch::Room;
use crate::plan::Stored;
pub use factors::{Factor, Matrix, Out, kind, pack_left, pack_right, rows_in_order, rows_room, singles};
use micro::Kind;
use pack::Narrow;
use rows::rows_product;

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

/// What is done to a row of the result as soon as it is there, while it is in the cache.
pub type After<'a> = &'a (dyn Fn(&mut [f32]) + Sync);

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

/// What [`product`] takes on the side.
pub fn room(p: &Product, out: Stored) -> Room {
    if p.m == 0 || p.n == 0 {
        return Room::default();
    }
    let set = Set::best();
    let kind = p.kind(set);
    if p.a.in_rows() || p.m * p.n * p.k <= SMALL {
        return rows::room(set, kind, p, out);
    }
    let whole = if out == Stored::Bf16 { p.m * p.n } else { 0 };
    sum::room(set, kind, p).and(Room::shared(&[whole]))
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
