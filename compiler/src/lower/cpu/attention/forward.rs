//! Attention forward for a tile of queries: keys and values go by in blocks, with a running softmax (Dao et al. 2022,
//! "FlashAttention", section 3.1).
//!
//! For a block of keys: S^T = k q^T, top' = max(top, S), E = e^(scale (S - top')), and with f = e^(scale (top - top')):
//! sum = f sum + sum(E), out = f out + E v; at the end out / sum.

use super::softmax::Exps;
use super::{Head, HeadOut, Sizes};
use crate::lower::cpu::lanes::{Set, dispatch_to};
use crate::lower::cpu::matmul::micro::{Block, Kind, Left, Right};
use crate::lower::cpu::matmul::{Matrix, pack_panels};
use crate::lower::cpu::parallel::scratch;

/// Queries of a tile: a multiple of every set's panels and tiles.
pub const QUERIES: usize = 96;
/// Keys of a block: a panel of values and the scores that meet it share the first cache.
const KEYS: usize = 128;

/// A head's operands and result.
pub struct Heads {
    /// [n, d]
    pub q: Head,
    /// [m, d]
    pub k: Head,
    /// [m, e]
    pub v: Head,
    /// [n, e]
    pub y: HeadOut,
}

/// The results of at most [`QUERIES`] queries from `first` on.
pub fn queries(set: Set, h: &Heads, s: Sizes, first: usize) {
    let rows = QUERIES.min(s.n - first);
    let width = 2 * set.lanes();
    let columns = rows.next_multiple_of(width);
    let keys = KEYS.min(s.m);
    let v_room = s.e.next_multiple_of(width) * keys;
    scratch(s.d * columns + keys * columns + v_room + rows * s.e + 3 * columns, |room| {
        let (q, room) = room.split_at_mut(s.d * columns);
        let (tile, room) = room.split_at_mut(keys * columns);
        let (v, room) = room.split_at_mut(v_room);
        let (out, room) = room.split_at_mut(rows * s.e);
        let (top, room) = room.split_at_mut(columns);
        let (sum, factor) = room.split_at_mut(columns);
        top.fill(f32::NEG_INFINITY);
        sum.fill(0.0);
        pack_panels(set, h.q.columns(first), s.d, rows, q);
        for key in (0..s.m).step_by(keys) {
            let count = keys.min(s.m - key);
            let tile = &mut tile[..count * columns];
            scores(set, h.k.rows(key), (count, columns, s.d), q, tile);
            // SAFETY: sizes are as the kernel asks.
            unsafe { dispatch_to(set, Exps { tile, columns, scale: s.scale, top, sum, factor }) };
            if key > 0 {
                for (y, f) in out.chunks_exact_mut(s.e.max(1)).zip(&*factor) {
                    y.iter_mut().for_each(|y| *y *= f);
                }
            }
            pack_panels(set, h.v.rows(key), count, s.e, v);
            let a = Left { data: tile.as_ptr(), row: 1, term: columns, strip: set.rows() };
            let b = Right { data: v.as_ptr(), term: width, panel: count * width };
            let c = out.as_mut_ptr();
            let block = Block { a, b, c, row: s.e, m: rows, n: s.e, k: count, add: key > 0, kind: Kind::Single };
            // SAFETY: the tile holds rows x count exponentials, `out` rows x e.
            unsafe { dispatch_to(set, block) };
        }
        for (i, (x, sum)) in out.chunks_exact(s.e.max(1)).zip(&*sum).enumerate() {
            let r = 1.0 / sum;
            // SAFETY: a task has rows of its own.
            unsafe { h.y.row(first + i, s.e) }.iter_mut().zip(x).for_each(|(y, x)| *y = x * r);
        }
    });
}

/// tile [keys, columns] = k [keys, d] times packed queries.
pub fn scores(set: Set, k: Matrix, (keys, columns, d): (usize, usize, usize), q: &[f32], tile: &mut [f32]) {
    assert!(tile.len() >= keys * columns && q.len() >= d * columns);
    let width = 2 * set.lanes();
    let a = Left { data: k.data, row: k.row, term: 1, strip: set.rows() * k.row };
    let b = Right { data: q.as_ptr(), term: width, panel: d * width };
    let c = tile.as_mut_ptr();
    // SAFETY: asserted; keys lie in their view.
    unsafe {
        dispatch_to(set, Block { a, b, c, row: columns, m: keys, n: columns, k: d, add: false, kind: Kind::Single })
    };
}
