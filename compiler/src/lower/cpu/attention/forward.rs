//! Attention forward for a tile of queries: keys and values go by in blocks, with a running softmax (Dao et al. 2022,
//! "FlashAttention", section 3.1).
//!
//! For a block of keys: S^T = k q^T, top' = max(top, S), E = e^(scale (S - top')), and with f = e^(scale (top - top')):
//! sum = f sum + sum(E), out = f out + E v; at the end out / sum.

use super::Sizes;
use super::operands::{Products, panel_room};
use super::softmax::Exps;
use crate::lower::cpu::lanes::dispatch_to;
use crate::lower::cpu::matmul::{Factor, Out, rows_in_order, rows_room};
use crate::lower::cpu::parallel::{rooms, scratch};

/// Queries of a tile: a multiple of every set's panels and tiles.
pub const QUERIES: usize = 96;
/// Keys of a block: a panel of values and the scores that meet it share the first cache.
const KEYS: usize = 128;

/// A head's operands and result.
#[derive(Clone, Copy)]
pub struct Heads {
    /// [n, d]
    pub q: Factor,
    /// [m, d]
    pub k: Factor,
    /// [m, e]
    pub v: Factor,
    /// [n, e]
    pub y: Out,
}

/// Numbers that `rows` queries take on the side; `k` is the head's keys.
pub fn room(p: Products, k: Factor, s: Sizes, rows: usize) -> [usize; 9] {
    let columns = rows.next_multiple_of(p.width());
    let keys = KEYS.min(s.m);
    [
        panel_room(p, s.d, columns),
        keys * columns,
        panel_room(p, keys, s.e),
        rows * s.e,
        rows_room(p.set, p.kind, k, keys, s.d),
        p.tile_room(keys, columns),
        columns,
        columns,
        columns,
    ]
}

/// The results of at most [`QUERIES`] queries from `first` on.
pub fn queries(p: Products, h: &Heads, s: Sizes, first: usize) {
    let rows = QUERIES.min(s.n - first);
    let columns = rows.next_multiple_of(p.width());
    let keys = KEYS.min(s.m);
    let sizes = room(p, h.k, s, rows);
    scratch(sizes.iter().sum(), |room| {
        let [q, tile, v, out, k_room, e_room, top, sum, factor] = rooms(room, sizes);
        top.fill(f32::NEG_INFINITY);
        sum.fill(0.0);
        let q = p.right(h.q.part(first, 0).transposed(), s.d, rows, q);
        for key in (0..s.m).step_by(keys) {
            let count = keys.min(s.m - key);
            let tile = &mut tile[..count * columns];
            let k = rows_in_order(p.set, p.kind, h.k.part(key, 0), count, s.d, k_room);
            // SAFETY: packed as the products ask; sizes are as the kernel asks.
            unsafe {
                p.multiply(k, q, (count, columns, s.d), tile, false);
                dispatch_to(p.set, Exps { tile, columns, scale: s.scale, top, sum, factor });
            }
            if key > 0 {
                for (y, f) in out.chunks_exact_mut(s.e.max(1)).zip(&*factor) {
                    y.iter_mut().for_each(|y| *y *= f);
                }
            }
            let v = p.right(h.v.part(key, 0), count, s.e, v);
            let exps = p.by_query(tile, columns, rows, e_room);
            // SAFETY: as above.
            unsafe { p.multiply(exps, v, (rows, s.e, count), out, key > 0) };
        }
        for (i, (y, sum)) in out.chunks_exact_mut(s.e.max(1)).zip(&*sum).enumerate() {
            let r = 1.0 / sum;
            y.iter_mut().for_each(|y| *y *= r);
            // SAFETY: a task has rows of its own.
            unsafe { h.y.write_row(p.set, first + i, y) };
        }
    });
}
