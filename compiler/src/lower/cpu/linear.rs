//! Linear: x [rows, i] times w [o, i] transposed, plus b [o]; one product over the rows of all blocks.

use super::context::Context;
use super::matmul::{Matrix, Product, product};
use super::parallel::Shared;
use crate::lower::LowerError;
use crate::plan::Step;

/// y = x w^T + b.
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
        add: false,
    };
    let place = Shared::new(y);
    let add_bias = |from: usize, to: usize| {
        let Some(bias) = bias else { return };
        // SAFETY: rows are given once each.
        let rows = unsafe { place.part(from * o, (to - from) * o) };
        rows.chunks_exact_mut(o).for_each(|y| y.iter_mut().zip(bias).for_each(|(y, b)| *y += b));
    };
    // SAFETY: the slices have these sizes, and results overlap no inputs.
    unsafe { product(&p, place.pointer(), o, &add_bias) };
    Ok(())
}
