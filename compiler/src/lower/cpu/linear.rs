//! Linear: x [rows, i] times w [o, i] transposed, plus b [o]; one product over the rows of all blocks.

use super::context::Context;
use super::matmul::{self, Product, product};
use super::scratch::Room;
use crate::lower::LowerError;
use crate::plan::Step;

/// y = x w^T + b.
pub fn linear(cx: &Context, step: &Step) -> Result<(), LowerError> {
    let bias = step.inputs.get(2).map(|&b| cx.floats(b));
    let p = whole(cx, step)?;
    let y = cx.shared(step, 0);
    let add_bias = |row: &mut [f32]| {
        let Some(bias) = bias.as_deref() else { return };
        row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
    };
    // SAFETY: the operands have these sizes, and results overlap no inputs.
    unsafe { product(&p, y.out(0, p.n), &add_bias) };
    Ok(())
}

/// The product over all rows.
fn whole(cx: &Context, step: &Step) -> Result<Product, LowerError> {
    let (x, w) = (cx.source(step, 0), cx.source(step, 1));
    let [o, i] = *cx.shape(step.inputs[1]).dims(0) else {
        return Err(LowerError::Bug("linear with a weight that is not [out, in]".into()));
    };
    let m = cx.shape(step.outputs[0]).total().checked_div(o).unwrap_or(0);
    Ok(Product { a: x.factor(i, 1), b: w.factor(1, i), m, n: o, k: i, add: false })
}

/// What [`linear`] takes on the side.
pub fn room(cx: &Context, step: &Step) -> Room {
    whole(cx, step).map_or(Room::default(), |p| matmul::room(&p, cx.stored(step.outputs[0])))
}
