//! Matrix products by the crate `gemm`, cut into tiles of our own.
//!
//! Tiles and cuts of the sum follow from the sizes alone, and every tile is one single-threaded call: so the bits do not
//! depend on the number of threads. Tiles are as large as they can be while a product has work for several cores, because
//! each call packs its operands again.

use super::context::Context;
use super::parallel::{CHUNK, Shared, each, pieces, scratch};
use crate::lower::LowerError;
use crate::plan::Step;

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

/// out [m, n] = scale * a [m, k] b [k, n], plus what is there already if `add`, plus a bias for each column.
#[derive(Clone, Copy)]
pub struct Product<'a> {
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
    /// Factor.
    pub scale: f32,
    /// Add to the result's present content.
    pub add: bool,
    /// One number a column.
    pub bias: Option<&'a [f32]>,
}

// SAFETY: operands are only read, and the plan keeps them unchanged while a product runs.
unsafe impl Send for Product<'_> {}
unsafe impl Sync for Product<'_> {}

/// Most rows of a tile; a tile of so many rows spends about a tenth of its time on packing at widths of some hundreds.
const ROWS: usize = 256;
/// Columns of a tile.
const COLUMNS: usize = 1024;
/// Most terms of a part of a long sum, where there are too few tiles.
const TERMS: usize = 1024;
/// With at least so many tiles a sum is not cut.
const ENOUGH: usize = 8;
/// Products with fewer multiplications are one tile.
const SMALL: usize = 1 << 20;

/// Writes a product to `out`, row-major with `row` elements from row to row.
///
/// # Safety
/// Operands and result lie where they say, and the result overlaps no operand.
pub unsafe fn product(p: Product, out: *mut f32, row: usize) {
    if p.m * p.n * p.k <= SMALL {
        unsafe { tile(p, out, row) };
        return;
    }
    let (rows, columns) = (p.m.div_ceil(ROWS), p.n.div_ceil(COLUMNS));
    if rows * columns < ENOUGH && p.k > TERMS {
        unsafe { cut_product(p, out, row) };
        return;
    }
    let size = even(p.m, ROWS, 4);
    let rows = p.m.div_ceil(size);
    let out = Shared::new(unsafe { std::slice::from_raw_parts_mut(out, (p.m - 1) * row + p.n) });
    each(rows * columns, |t| {
        let (i, j) = (t / columns * size, t % columns * COLUMNS);
        // SAFETY: tiles do not overlap.
        unsafe { tile(p.window(i, j, 0, size, COLUMNS, p.k), out.pointer().add(i * row + j), row) };
    });
}

/// The size of parts of `n` of at most `most`, their number a multiple of `of` if there is more than one: so that a few
/// threads end together.
fn even(n: usize, most: usize, of: usize) -> usize {
    let parts = n.div_ceil(most);
    if parts == 1 { n } else { n.div_ceil(parts.next_multiple_of(of)).next_multiple_of(8) }
}

/// Every cut of the sum goes to memory of its own; they are added in order.
unsafe fn cut_product(p: Product, out: *mut f32, row: usize) {
    let size = p.m * p.n;
    let rows = p.m.div_ceil(ROWS);
    let terms = even(p.k, TERMS, 2);
    let cuts = p.k.div_ceil(terms);
    let out = Shared::new(unsafe { std::slice::from_raw_parts_mut(out, (p.m - 1) * row + p.n) });
    scratch(cuts * size, |parts| {
        let parts = Shared::new(parts);
        each(cuts * rows, |t| {
            let (cut, i) = (t / rows, t % rows * ROWS);
            let window = Product { add: false, bias: None, ..p.window(i, 0, cut * terms, ROWS, p.n, terms) };
            // SAFETY: cuts and tiles do not overlap.
            unsafe { tile(window, parts.pointer().add(cut * size + i * p.n), p.n) };
        });
        pieces(p.m, (CHUNK / p.n).max(1), |from, to| {
            for i in from..to {
                // SAFETY: rows do not overlap, and all parts are written.
                let y = unsafe { std::slice::from_raw_parts_mut(out.pointer().add(i * row), p.n) };
                for cut in 0..cuts {
                    let part = unsafe { parts.part(cut * size + i * p.n, p.n) };
                    if cut == 0 && !p.add {
                        y.copy_from_slice(part);
                    } else {
                        y.iter_mut().zip(part).for_each(|(y, p)| *y += *p);
                    }
                }
                if let Some(bias) = p.bias {
                    y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
                }
            }
        });
    });
}

impl Product<'_> {
    /// The part of rows from i, columns from j and terms from t, at most so many of each.
    fn window(self, i: usize, j: usize, t: usize, rows: usize, columns: usize, terms: usize) -> Self {
        let (a, b) = (self.a, self.b);
        let n = columns.min(self.n - j);
        Product {
            a: Matrix { data: a.data.wrapping_add(i * a.row + t * a.col), ..a },
            b: Matrix { data: b.data.wrapping_add(t * b.row + j * b.col), ..b },
            m: rows.min(self.m - i),
            n,
            k: terms.min(self.k - t),
            bias: self.bias.map(|bias| &bias[j..j + n]),
            ..self
        }
    }
}

/// One single-threaded product.
///
/// # Safety
/// As [`product`].
pub unsafe fn tile(p: Product, out: *mut f32, row: usize) {
    if p.m == 0 || p.n == 0 {
        return;
    }
    unsafe {
        if p.k == 0 && !p.add {
            (0..p.m).for_each(|i| std::slice::from_raw_parts_mut(out.add(i * row), p.n).fill(0.0));
        }
        gemm::gemm(
            p.m,
            p.n,
            p.k,
            out,
            1,
            row as isize,
            p.add || p.k == 0,
            p.a.data,
            p.a.col as isize,
            p.a.row as isize,
            p.b.data,
            p.b.col as isize,
            p.b.row as isize,
            1.0,
            p.scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
        if let Some(bias) = p.bias {
            for i in 0..p.m {
                let y = std::slice::from_raw_parts_mut(out.add(i * row), p.n);
                y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
            }
        }
    }
}

/// x [rows, i] times w [o, i] transposed, plus b [o]: one product over the rows of all blocks.
pub fn linear(cx: &Context, step: &Step) -> Result<(), LowerError> {
    let (x, w) = (cx.input(step, 0), cx.input(step, 1));
    let bias = step.inputs.get(2).map(|&b| cx.dense(b));
    let [o, i] = *cx.shape(step.inputs[1]).dims(0) else {
        return Err(LowerError::Bug("linear with a weight that is not [out, in]".into()));
    };
    let y = cx.output(step, 0);
    let p = Product {
        a: Matrix { data: x.as_ptr(), row: i, col: 1 },
        b: Matrix { data: w.as_ptr(), row: 1, col: i },
        m: y.len().checked_div(o).unwrap_or(0),
        n: o,
        k: i,
        scale: 1.0,
        add: false,
        bias,
    };
    // SAFETY: the slices have these sizes, and results overlap no inputs.
    unsafe { product(p, y.as_mut_ptr(), o) };
    Ok(())
}
