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
use crate::lower::cpu::matmul::{Factor, Matrix, Out, rows_in_order, rows_room};
use crate::lower::cpu::parallel::{rooms, scratch};

/// Most and fewest queries of a tile, and the scores that a tile has at most if there is a choice: two such tiles fit the
/// second cache.
const QUERIES: (usize, usize, usize) = (96, 32, 40_000);

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

/// Queries of a tile over `m` keys.
fn tile_queries(m: usize) -> usize {
    let (most, fewest, room) = QUERIES;
    (room / m.max(1) / fewest * fewest).clamp(fewest, most)
}

/// Gradients of a head.
pub fn head(p: Products, h: &Heads, s: Sizes) {
    let queries = tile_queries(s.m).min(s.n);
    let most = queries.next_multiple_of(p.width());
    let (m, d, e) = (s.m, s.d, s.e);
    let left = |a: Factor, k: usize| rows_room(p.set, p.kind, a, m, k);
    // Keys and values as rows and keys as panels, for all tiles; a tile's queries and gradients as columns and rows.
    let fixed = [left(h.k, d), left(h.v, e), panel_room(p, m, d), m * d, m * e];
    let tile = [m * most, m * most, p.tile_room(m, most), queries * d, 2 * queries * e];
    let panels = [panel_room(p, d.max(e), most), panel_room(p, most, d.max(e))];
    let numbers = [most; 5];
    let total = fixed.iter().chain(&tile).chain(&panels).chain(&numbers).sum();
    scratch(total, |room| {
        let (fixed_room, room) = room.split_at_mut(fixed.iter().sum());
        let (tile_room, room) = room.split_at_mut(tile.iter().sum());
        let (panel_room, room) = room.split_at_mut(panels.iter().sum());
        let [k_rows, v_rows, k_panels, dk, dv] = rooms(fixed_room, fixed);
        let [exps, ds, e_room, dq, g] = rooms(tile_room, tile);
        let [columns_room, rows_panels] = rooms(panel_room, panels);
        let [top, sum, factor, r, dots] = rooms(room, numbers);
        let k = rows_in_order(p.set, p.kind, h.k, m, d, k_rows);
        let v = rows_in_order(p.set, p.kind, h.v, m, e, v_rows);
        let k_panels = p.right(h.k, m, d, k_panels);
        let (g, out_row) = g.split_at_mut(queries * e);
        for first in (0..s.n).step_by(queries) {
            let rows = queries.min(s.n - first);
            let columns = rows.next_multiple_of(p.width());
            let (exps, ds) = (&mut exps[..m * columns], &mut ds[..m * columns]);
            let (q_part, g_part) = (h.q.part(first, 0), h.g.part(first, 0));
            top.fill(f32::NEG_INFINITY);
            sum.fill(0.0);
            // E
            let q = p.right(q_part.transposed(), d, rows, columns_room);
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
            // dP, dS
            let g_columns = p.right(g_part.transposed(), e, rows, columns_room);
            // SAFETY: as above.
            unsafe {
                p.multiply(v, g_columns, (m, columns, e), ds, false);
                dispatch_to(p.set, ScoreGrad { exps, dp: ds, columns, r, d: dots });
            }
            // dv, dk, dq
            let add = first > 0;
            let rg = p.right(Factor::F32(Matrix { data: g.as_ptr(), row: e, col: 1 }), rows, e, rows_panels);
            let by_key = p.by_key(exps, columns, rows, e_room);
            // SAFETY: as above, and below.
            unsafe { p.multiply(by_key, rg, (m, e, rows), dv, add) };
            let q = p.right(q_part, rows, d, rows_panels);
            let by_key = p.by_key(ds, columns, rows, e_room);
            unsafe { p.multiply(by_key, q, (m, d, rows), dk, add) };
            let by_query = p.by_query(ds, columns, rows, e_room);
            unsafe { p.multiply(by_query, k_panels, (rows, d, m), dq, false) };
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
