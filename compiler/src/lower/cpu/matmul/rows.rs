//! Products of rows with a weight: the weight is packed once, the rows are read where they lie; tasks are blocks of rows.

use super::micro::{Block, Kind, Left, Right};
use super::{After, Out, Product, SMALL, even, finish, pack_right, rows_in_order, rows_room, singles};
use crate::lower::cpu::lanes::{Set, dispatch_to};
use crate::lower::cpu::parallel::{each, scratch};
use crate::lower::cpu::place::Shared;
use crate::lower::cpu::scratch::Room;
use crate::plan::Stored;

/// Rows of a block: a multiple of every set's tile, and with some hundred columns still in the second cache.
const ROWS: usize = 48;
/// Most terms that are summed in registers at a time: a panel of them fits the first cache, beside the rows it meets.
const TERMS: usize = 320;

/// What [`rows_product`] takes on the side.
pub fn room(set: Set, kind: Kind, p: &Product, out: Stored) -> Room {
    let packed = p.k.div_ceil(singles(kind)) * p.n.next_multiple_of(2 * set.lanes());
    let one_task = p.m * p.n * p.k <= SMALL;
    let rows = if one_task { p.m } else { ROWS.min(p.m) };
    let sums = if out == Stored::Bf16 { rows * p.n } else { 0 };
    let (sums, factor) = (sums, rows_room(set, kind, p.a, rows, p.k));
    let packed = Room::shared(&[packed]);
    packed.and(if one_task { Room::shared(&[sums, factor]) } else { Room::task(&[sums, factor]) })
}

/// Blocks of rows times a whole packed factor.
pub fn rows_product(set: Set, kind: Kind, p: &Product, out: Out, after: After) {
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
