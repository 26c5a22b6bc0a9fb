//! Attention backward for a head, a tile of queries at a time.
//!
//! With E = e^(scale (S - top)), r = 1 / sum(E) and D = g . out for each query:
//! dP = g v^T, dS = scale r E (dP - D), dq = dS k, dk = sum over tiles of dS^T q, dv = sum over tiles of E^T (r g).
//! The factor r, which would make E the softmax, is never applied to the exponentials by itself.

use super::Sizes;
use super::operands::{Products, panel_room};
use super::softmax::{Exps, ScoreGrad};
use crate::lower::cpu::lanes::dispatch_to;
use crate::lower::cpu::math::dot;
use crate::lower::cpu::matmul::micro::Right;
use crate::lower::cpu::matmul::{Factor, Matrix, Out, rows_in_order, rows_room};
use crate::lower::cpu::parallel::{rooms, scratch};

/// Most and fewest queries of a tile, and the scores that a tile has at most if there is a choice: some 600 kB, about what
/// a second cache holds.
const QUERIES: (usize, usize, usize) = (96, 32, 160_000);
/// Keys of a block, whose gradients of scores are used while they are in the cache; a multiple of every set's rows.
const KEYS: usize = 240;

/// Operands and results of a head.
#[derive(Clone, Copy)]
pub struct Heads {
    /// [n, d]
    pub q: Factor,
    /// [m, d]
    pub k: Factor,
    /// [m, e]
    pub v: Factor,
    /// [n, e]
    pub out: Factor,
    /// [n, e]
    pub g: Factor,
    /// [n, d]
    pub dq: Out,
    /// [m, d]
    pub dk: Out,
    /// [m, e]
    pub dv: Out,
}

/// Some keys, packed as panels.
struct Block {
    first: usize,
    count: usize,
    k: Right,
}

/// Queries of a tile over `m` keys.
fn tile_queries(m: usize) -> usize {
    let (most, fewest, room) = QUERIES;
    (room / m.max(1) / fewest * fewest).clamp(fewest, most)
}

/// Numbers that a head takes on the side.
pub struct Rooms {
    /// Keys and values as rows, and keys as panels block by block, for all tiles; gradients of both.
    fixed: [usize; 5],
    /// Scores of a tile, and its queries' gradients.
    tile: [usize; 5],
    /// A tile's queries and gradients as columns and rows.
    panels: [usize; 4],
    /// Numbers of a tile's queries.
    numbers: [usize; 5],
}

impl Rooms {
    /// For the keys and values of a head.
    pub fn new(p: Products, k: Factor, v: Factor, s: Sizes) -> Rooms {
        let queries = tile_queries(s.m).min(s.n);
        let most = queries.next_multiple_of(p.width());
        let (m, d, e) = (s.m, s.d, s.e);
        let keys = KEYS.min(m);
        let left = |a: Factor, k: usize| rows_room(p.set, p.kind, a, m, k);
        Rooms {
            fixed: [left(k, d), left(v, e), m.div_ceil(KEYS) * panel_room(p, keys, d), m * d, m * e],
            tile: [m * most, keys * most, p.tile_room(keys, most), queries * d, 2 * queries * e],
            panels: [panel_room(p, d, most), panel_room(p, e, most), panel_room(p, most, e), panel_room(p, most, d)],
            numbers: [most; 5],
        }
    }

    /// All of them.
    pub fn total(&self) -> usize {
        self.fixed.iter().chain(&self.tile).chain(&self.panels).chain(&self.numbers).sum()
    }
}

/// Gradients of a head.
pub fn head(p: Products, h: &Heads, s: Sizes) {
    let queries = tile_queries(s.m).min(s.n);
    let (m, d, e) = (s.m, s.d, s.e);
    let keys = KEYS.min(m);
    let sizes = Rooms::new(p, h.k, h.v, s);
    let total = sizes.total();
    let Rooms { fixed, tile, panels, numbers } = sizes;
    scratch(total, |room| {
        let (fixed_room, room) = room.split_at_mut(fixed.iter().sum());
        let (tile_room, room) = room.split_at_mut(tile.iter().sum());
        let (panel_part, room) = room.split_at_mut(panels.iter().sum());
        let [k_rows, v_rows, k_panels, dk, dv] = rooms(fixed_room, fixed);
        let [exps, ds, e_room, dq, g] = rooms(tile_room, tile);
        let [q_columns, g_columns, g_rows, q_rows] = rooms(panel_part, panels);
        let [top, sum, factor, r, dots] = rooms(room, numbers);
        let k = rows_in_order(p.set, p.kind, h.k, m, d, k_rows);
        let v = rows_in_order(p.set, p.kind, h.v, m, e, v_rows);
        let block_room = panel_room(p, keys, d);
        let blocks: Vec<Block> = (0..m)
            .step_by(keys)
            .zip(k_panels.chunks_exact_mut(block_room.max(1)))
            .map(|(first, room)| {
                let count = keys.min(m - first);
                Block { first, count, k: p.right(h.k.part(first, 0), count, d, room) }
            })
            .collect();
        let (g, out_row) = g.split_at_mut(queries * e);
        for first in (0..s.n).step_by(queries) {
            let rows = queries.min(s.n - first);
            let columns = rows.next_multiple_of(p.width());
            let exps = &mut exps[..m * columns];
            let (q_part, g_part) = (h.q.part(first, 0), h.g.part(first, 0));
            top.fill(f32::NEG_INFINITY);
            sum.fill(0.0);
            // E
            let q = p.right(q_part.transposed(), d, rows, q_columns);
            // SAFETY: packed as the products ask; sizes are as the kernel asks.
            unsafe {
                p.multiply(k, q, (m, columns, d), exps, false);
                dispatch_to(p.set, Exps { tile: exps, columns, scale: s.scale, top, sum, factor });
            }
            // r, D, r g
            for (i, g) in g.chunks_exact_mut(e.max(1)).take(rows).enumerate() {
                let out = &mut out_row[..e];
                // SAFETY: the heads have these rows.
                unsafe {
                    g_part.read_row(p.set, i, g);
                    h.out.read_row(p.set, first + i, out);
                }
                (r[i], dots[i]) = (1.0 / sum[i], dot(g, out));
                g.iter_mut().for_each(|g| *g *= r[i]);
                r[i] *= s.scale;
            }
            let g_columns = p.right(g_part.transposed(), e, rows, g_columns);
            let g_rows = p.right(Factor::F32(Matrix { data: g.as_ptr(), row: e, col: 1 }), rows, e, g_rows);
            let q_rows = p.right(q_part, rows, d, q_rows);
            for block in &blocks {
                let (from, count, add) = (block.first, block.count, first > 0);
                let exps = &exps[from * columns..(from + count) * columns];
                let ds = &mut ds[..count * columns];
                // SAFETY: as above.
                unsafe {
                    // dP, dS
                    p.multiply(v.skip_rows(from, p.set), g_columns, (count, columns, e), ds, false);
                    dispatch_to(p.set, ScoreGrad { exps, dp: ds, columns, r, d: dots });
                    // dv, dk, dq
                    let by_key = p.by_key(exps, columns, rows, e_room);
                    p.multiply(by_key, g_rows, (count, e, rows), &mut dv[from * e..], add);
                    let by_key = p.by_key(ds, columns, rows, e_room);
                    p.multiply(by_key, q_rows, (count, d, rows), &mut dk[from * d..], add);
                    let by_query = p.by_query(ds, columns, rows, e_room);
                    p.multiply(by_query, block.k, (rows, d, count), dq, from > 0);
                }
            }
            write(p, h.dq, first, &dq[..rows * d], d);
        }
        write(p, h.dk, 0, dk, d);
        write(p, h.dv, 0, dv, e);
    });
}

/// Writes rows of so many numbers from row `first` on.
fn write(p: Products, out: Out, first: usize, rows: &[f32], width: usize) {
    for (i, row) in rows.chunks_exact(width.max(1)).enumerate() {
        // SAFETY: a task has a head of every result of its own.
        unsafe { out.write_row(p.set, first + i, row) };
    }
}
