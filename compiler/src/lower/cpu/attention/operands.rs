//! How the products of attention get their factors, for f32 and for pairs of bf16.

use crate::lower::cpu::lanes::{Set, dispatch_to};
use crate::lower::cpu::matmul::micro::{Block, Kind, Left, Right};
use crate::lower::cpu::matmul::pack::{Narrow, strip};
use crate::lower::cpu::matmul::{Factor, Matrix, pack_left, pack_right, singles};

/// Instructions and element type of a head's products.
#[derive(Clone, Copy)]
pub struct Products {
    /// Instructions.
    pub set: Set,
    /// Terms.
    pub kind: Kind,
}

/// Numbers of room for panels of [terms, columns].
pub fn panel_room(p: Products, terms: usize, columns: usize) -> usize {
    terms.div_ceil(singles(p.kind)) * columns.next_multiple_of(p.width())
}

impl Products {
    /// Columns of a panel.
    pub fn width(self) -> usize {
        2 * self.set.lanes()
    }

    fn terms(self, k: usize) -> usize {
        k.div_ceil(singles(self.kind))
    }

    /// Packs b [k, n] into panels.
    pub fn right(self, b: Factor, k: usize, n: usize, to: &mut [f32]) -> Right {
        let terms = self.terms(k);
        pack_right(self.set, self.kind, b, k, terms, n, to);
        Right { data: to.as_ptr(), term: self.width(), panel: terms * self.width() }
    }

    /// Numbers of room that [`Products::by_key`] and [`Products::by_query`] need for a tile.
    pub fn tile_room(self, keys: usize, columns: usize) -> usize {
        match self.kind {
            Kind::Single => 0,
            Kind::Pair => {
                let strips = columns.div_ceil(self.set.rows()) * strip(self.set.rows(), self.terms(keys));
                strips.max(keys * columns / 2)
            }
        }
    }

    /// A tile [keys, columns] as rows of keys whose terms are queries.
    pub fn by_key(self, tile: &[f32], columns: usize, queries: usize, room: &mut [f32]) -> Left {
        match self.kind {
            Kind::Single => Left { data: tile.as_ptr(), row: columns, term: 1, strip: self.set.rows() * columns },
            Kind::Pair => {
                assert!(2 * room.len() >= tile.len() && columns.is_multiple_of(2));
                // SAFETY: the room holds as many bf16; the set is available.
                let to = unsafe { std::slice::from_raw_parts_mut(room.as_mut_ptr().cast::<u16>(), tile.len()) };
                unsafe { dispatch_to(self.set, Narrow { from: tile, to }) };
                if !queries.is_multiple_of(2) {
                    // The last query's other half: a column that nobody computed.
                    to.iter_mut().skip(queries).step_by(columns).for_each(|x| *x = 0);
                }
                Left { data: room.as_ptr(), row: columns / 2, term: 1, strip: self.set.rows() * columns / 2 }
            }
        }
    }

    /// A tile [keys, columns] as rows of queries whose terms are keys.
    pub fn by_query(self, tile: &[f32], columns: usize, queries: usize, room: &mut [f32]) -> Left {
        let (tall, keys) = (self.set.rows(), tile.len() / columns);
        match self.kind {
            Kind::Single => Left { data: tile.as_ptr(), row: 1, term: columns, strip: tall },
            Kind::Pair => {
                let a = Factor::F32(Matrix { data: tile.as_ptr(), row: 1, col: columns });
                let terms = self.terms(keys);
                pack_left(self.set, self.kind, a, keys, terms, queries, room);
                Left { data: room.as_ptr(), row: 1, term: tall, strip: strip(tall, terms) }
            }
        }
    }

    /// c [m, n] = a b over k single terms.
    ///
    /// # Safety
    /// The factors have these sizes, `c` has room for m rows of `row` numbers.
    pub unsafe fn multiply(self, a: Left, b: Right, (m, n, k): (usize, usize, usize), c: &mut [f32], add: bool) {
        assert!(c.len() >= m * n, "compiler bug: {} numbers for a product of {m} x {n}", c.len());
        let c = c.as_mut_ptr();
        let block = Block { a, b, c, row: n, m, n, k: self.terms(k), add, kind: self.kind };
        // SAFETY: the caller's.
        unsafe { dispatch_to(self.set, block) };
    }
}
