//! Linear: x [rows, i] times w [o, i] transposed, plus b [o]; one product over the rows of all blocks.

use super::context::Context;
use super::matmul::{Factor, Matrix, Out, Product, product};
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
        a: Factor::F32(Matrix { data: x.as_ptr(), row: i, col: 1 }),
        b: Factor::F32(Matrix { data: w.as_ptr(), row: 1, col: i }),
        m: y.len().checked_div(o).unwrap_or(0),
        n: o,
        k: i,
        add: false,
    };
    let add_bias = |row: &mut [f32]| {
        let Some(bias) = bias else { return };
        row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
    };
    // SAFETY: the slices have these sizes, and results overlap no inputs.
    unsafe { product(&p, Out::f32(y.as_mut_ptr(), o), &add_bias) };
    Ok(())
}
