//! Linear: x [rows, i] times w [o, i] transposed, plus b [o]; one product over the rows of all blocks.

use super::context::Context;
use super::matmul::{Product, product};
use crate::lower::LowerError;
use crate::plan::Step;

/// y = x w^T + b.
pub fn linear(cx: &Context, step: &Step) -> Result<(), LowerError> {
    let (x, w) = (cx.source(step, 0), cx.source(step, 1));
    let bias = step.inputs.get(2).map(|&b| cx.floats(b));
    let [o, i] = *cx.shape(step.inputs[1]).dims(0) else {
        return Err(LowerError::Bug("linear with a weight that is not [out, in]".into()));
    };
    let y = cx.shared(step, 0);
    let m = y.len().checked_div(o).unwrap_or(0);
    let p = Product { a: x.factor(i, 1), b: w.factor(1, i), m, n: o, k: i, add: false };
    let add_bias = |row: &mut [f32]| {
        let Some(bias) = bias.as_deref() else { return };
        row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
    };
    // SAFETY: the operands have these sizes, and results overlap no inputs.
    unsafe { product(&p, y.out(0, o), &add_bias) };
    Ok(())
}
