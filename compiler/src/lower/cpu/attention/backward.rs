//! Attention backward for a head, a tile of queries at a time.
//!
//! With E = e^(scale (S - top)), r = 1 / sum(E) and D = g . out for each query:
//! dP = g v^T, dS = scale r E (dP - D), dq = dS k, dk = sum over tiles of dS^T q, dv = sum over tiles of E^T (r g).
//! The factor r, which would make E the softmax, is never applied to the exponentials by itself.

use super::forward::scores;
use super::softmax::{Exps, ScoreGrad};
use super::{Head, HeadOut, Sizes};
use crate::lower::cpu::lanes::{Set, dispatch_to};
use crate::lower::cpu::matmul::micro::{Block, Kind, Left, Right};
use crate::lower::cpu::matmul::{Matrix, pack_panels};
use crate::lower::cpu::parallel::scratch;

/// Most and fewest queries of a tile, and the scores that a tile has at most if there is a choice: two such tiles fit the
/// second cache.
const QUERIES: (usize, usize, usize) = (96, 32, 40_000);

/// Operands and results of a head.
pub struct Heads {
    /// [n, d]
    pub q: Head,
    /// [m, d]
    pub k: Head,
    /// [m, e]
    pub v: Head,
    /// [n, e]
    pub out: Head,
    /// [n, e]
    pub g: Head,
    /// [n, d]
    pub dq: HeadOut,
    /// [m, d]
    pub dk: HeadOut,
    /// [m, e]
    pub dv: HeadOut,
}

/// Queries of a tile over `m` keys.
fn tile_queries(m: usize) -> usize {
    let (most, fewest, room) = QUERIES;
    (room / m.max(1) / fewest * fewest).clamp(fewest, most)
}

/// Gradients of a head.
pub fn head(set: Set, h: &Heads, s: Sizes) {
    let (width, queries) = (2 * set.lanes(), tile_queries(s.m).min(s.n));
    let most = queries.next_multiple_of(width);
    let (d_room, e_room) = (s.d.next_multiple_of(width), s.e.next_multiple_of(width));
    scratch(2 * s.m * most + s.m * d_room + most * (2 * d_room + 2 * e_room) + most * s.e + 5 * most, |room| {
        let (exps, room) = room.split_at_mut(s.m * most);
        let (ds, room) = room.split_at_mut(s.m * most);
        let (keys, room) = room.split_at_mut(s.m * d_room);
        let (q_columns, room) = room.split_at_mut(most * d_room);
        let (q_rows, room) = room.split_at_mut(most * d_room);
        let (g_columns, room) = room.split_at_mut(most * e_room);
        let (g_rows, room) = room.split_at_mut(most * e_room);
        let (rg, room) = room.split_at_mut(most * s.e);
        let (top, room) = room.split_at_mut(most);
        let (sum, room) = room.split_at_mut(most);
        let (factor, room) = room.split_at_mut(most);
        let (r, d) = room.split_at_mut(most);
        pack_panels(set, h.k.rows(0), s.m, s.d, keys);
        for first in (0..s.n).step_by(queries) {
            let rows = queries.min(s.n - first);
            let columns = rows.next_multiple_of(width);
            let (exps, ds) = (&mut exps[..s.m * columns], &mut ds[..s.m * columns]);
            // E
            pack_panels(set, h.q.columns(first), s.d, rows, q_columns);
            scores(set, h.k.rows(0), (s.m, columns, s.d), q_columns, exps);
            top.fill(f32::NEG_INFINITY);
            sum.fill(0.0);
            // SAFETY: sizes are as the kernel asks.
            unsafe { dispatch_to(set, Exps { tile: exps, columns, scale: s.scale, top, sum, factor }) };
            // r, D, r g
            for i in 0..rows {
                // SAFETY: the heads have these rows.
                let (g, out) = unsafe { (h.g.row(first + i, s.e), h.out.row(first + i, s.e)) };
                (r[i], d[i]) = (1.0 / sum[i], crate::lower::cpu::math::dot(g, out));
                rg[i * s.e..(i + 1) * s.e].iter_mut().zip(g).for_each(|(y, g)| *y = r[i] * g);
                r[i] *= s.scale;
            }
            // dP, dS
            pack_panels(set, h.g.columns(first), s.e, rows, g_columns);
            scores(set, h.v.rows(0), (s.m, columns, s.e), g_columns, ds);
            // SAFETY: as above.
            unsafe { dispatch_to(set, ScoreGrad { exps, dp: ds, columns, r, d }) };
            // dv, dk, dq
            pack_panels(set, Matrix { data: rg.as_ptr(), row: s.e, col: 1 }, rows, s.e, g_rows);
            pack_panels(set, h.q.rows(first), rows, s.d, q_rows);
            let by_key =
                |tile: &[f32]| Left { data: tile.as_ptr(), row: columns, term: 1, strip: set.rows() * columns };
            let by_query = Left { data: ds.as_ptr(), row: 1, term: columns, strip: set.rows() };
            let panels = |data: &[f32], terms: usize| Right { data: data.as_ptr(), term: width, panel: terms * width };
            let add = first > 0;
            let (m, kind) = (s.m, Kind::Single);
            let (c, row) = (h.dv.data, h.dv.row);
            let dv = Block { a: by_key(exps), b: panels(g_rows, rows), c, row, m, n: s.e, k: rows, add, kind };
            let (c, row) = (h.dk.data, h.dk.row);
            let dk = Block { a: by_key(ds), b: panels(q_rows, rows), c, row, m, n: s.d, k: rows, add, kind };
            let (c, row) = (h.dq.data.wrapping_add(first * h.dq.row), h.dq.row);
            let dq = Block { a: by_query, b: panels(keys, m), c, row, m: rows, n: s.d, k: m, add: false, kind };
            // SAFETY: a task has a head of every result of its own.
            unsafe { [dv, dk, dq].into_iter().for_each(|b| dispatch_to(set, b)) };
        }
    });
}
