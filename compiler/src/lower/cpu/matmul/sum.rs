//! Products whose sum is long: tiles of the result and cuts of the sum are tasks, the cuts are added in order.

use super::micro::{Block, Kind, Left, Right};
use super::pack::strip;
use super::{Product, even, pack_left, pack_right, singles};
use crate::lower::cpu::lanes::{Set, dispatch_to};
use crate::lower::cpu::parallel::{CHUNK, each, pieces, scratch, simd};
use crate::lower::cpu::place::Shared;
use crate::lower::cpu::scratch::Room;

/// Most rows and columns of a tile, and its terms at a time.
const TILE: (usize, usize, usize) = (288, 384, 256);
/// Tasks that a long sum is cut into at least, if its parts are long enough.
const CUTS: usize = 16;
/// Fewest terms of a part of a long sum.
const PART: usize = 1024;

/// Where a tile is, and its sizes. Terms are of either kind.
#[derive(Clone, Copy)]
struct Tile {
    i: usize,
    j: usize,
    m: usize,
    n: usize,
    term: usize,
    terms: usize,
}

/// How a product is cut.
struct Cut {
    tile_m: usize,
    tile_n: usize,
    down: usize,
    across: usize,
    terms: usize,
    cuts: usize,
}

impl Cut {
    fn new(kind: Kind, p: &Product) -> Cut {
        let k = p.k.div_ceil(singles(kind));
        let (tile_m, tile_n) = (even(p.m, TILE.0, 12), even(p.n, TILE.1, 32));
        let (down, across) = (p.m.div_ceil(tile_m), p.n.div_ceil(tile_n));
        let cuts = CUTS.div_ceil(down * across).min(k.div_ceil(PART)).max(1);
        let terms = even(k, k.div_ceil(cuts), 8).max(1);
        Cut { tile_m, tile_n, down, across, terms, cuts: k.div_ceil(terms).max(1) }
    }
}

/// What [`sum_product`] takes on the side.
pub fn room(set: Set, kind: Kind, p: &Product) -> Room {
    let cut = Cut::new(kind, p);
    let parts = if cut.cuts > 1 { cut.cuts * p.m * p.n } else { 0 };
    let last = p.k.div_ceil(singles(kind)) - (cut.cuts - 1) * cut.terms;
    let task = |terms: usize| {
        let (strips, panels) = tile_room(set, cut.tile_m.min(p.m), cut.tile_n.min(p.n), terms);
        Room::task(&[strips + panels])
    };
    Room::shared(&[parts]).and(task(cut.terms).or(task(last)))
}

/// Numbers that the packed factors of a tile take, some terms at a time.
fn tile_room(set: Set, m: usize, n: usize, terms: usize) -> (usize, usize) {
    let (height, width) = (set.rows(), 2 * set.lanes());
    let most = even(terms, TILE.2, 8).min(terms);
    (m.div_ceil(height) * strip(height, most), n.next_multiple_of(width) * most)
}

/// Writes a product to `out`, `row` elements from row to row.
pub fn sum_product(set: Set, kind: Kind, p: &Product, out: *mut f32, row: usize) {
    let k = p.k.div_ceil(singles(kind));
    let Cut { tile_m, tile_n, down, across, terms, cuts } = Cut::new(kind, p);
    let size = p.m * p.n;
    // SAFETY: the caller's: there is room for the result.
    let out = Shared::new(unsafe { std::slice::from_raw_parts_mut(out, (p.m - 1) * row + p.n) });
    let place = |t: usize| {
        let (cut, t) = (t / (down * across), t % (down * across));
        let (i, j, term) = (t / across * tile_m, t % across * tile_n, cut * terms);
        let tile = Tile { i, j, m: tile_m.min(p.m - i), n: tile_n.min(p.n - j), term, terms: terms.min(k - term) };
        (cut, tile)
    };
    if cuts == 1 {
        each(down * across, |t| {
            let at = place(t).1;
            tile(set, kind, p, at, out.pointer().wrapping_add(at.i * row + at.j), row, p.add);
        });
        return;
    }
    scratch(cuts * size, |parts| {
        let parts = Shared::new(parts);
        each(down * across * cuts, |t| {
            let (cut, at) = place(t);
            let c = parts.pointer().wrapping_add(cut * size + at.i * p.n + at.j);
            tile(set, kind, p, at, c, p.n, false);
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

/// One tile of one cut, single-threaded: both factors packed some terms at a time.
fn tile(set: Set, kind: Kind, p: &Product, at: Tile, c: *mut f32, row: usize, add: bool) {
    let (height, width) = (set.rows(), 2 * set.lanes());
    let most = even(at.terms, TILE.2, 8).min(at.terms);
    let (strips, panels) = tile_room(set, at.m, at.n, at.terms);
    scratch(strips + panels, |room| {
        let (a, b) = room.split_at_mut(strips);
        for term in (0..at.terms).step_by(most.max(1)) {
            let count = most.min(at.terms - term);
            let first = (at.term + term) * singles(kind);
            pack_left(set, kind, p.a.part(at.i, first), p.k - first, count, at.m, a);
            pack_right(set, kind, p.b.part(first, at.j), p.k - first, count, at.n, b);
            let a = Left { data: a.as_ptr(), row: 1, term: height, strip: strip(height, count) };
            let b = Right { data: b.as_ptr(), term: width, panel: count * width };
            let block = Block { a, b, c, row, m: at.m, n: at.n, k: count, add: add || term > 0, kind };
            // SAFETY: tiles do not overlap; everything is packed.
            unsafe { dispatch_to(set, block) };
        }
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
                if lanes == LANES {
                    let part = &parts[part..part + LANES];
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
