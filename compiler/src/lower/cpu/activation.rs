//! GELU, forward and backward.
//!
//! y = x (1 + erf(x / sqrt 2)) / 2, dy/dx = (1 + erf(x / sqrt 2)) / 2 + x e^(-x^2 / 2) / sqrt(2 pi).

use super::context::Context;
use super::math::{erf, exp_down};
use super::parallel::{CHUNK, fma, pieces, simd};
use crate::lower::LowerError;
use crate::plan::Step;

/// 1 / sqrt(2 pi).
const DENSITY: f32 = 0.398_942_3;

/// y = gelu(x).
pub fn gelu(cx: &Context, step: &Step) -> Result<(), LowerError> {
    let x = cx.source(step, 0);
    let place = cx.shared(step, 0);
    pieces(x.len(), CHUNK, |from, to| {
        // SAFETY: pieces do not overlap.
        unsafe { x.read(place, from, to, |x| place.write(from, to - from, |y| gelu_row(x, y))) };
    });
    Ok(())
}

simd! {
    fn gelu_row(x: &[f32], y: &mut [f32]) { <FMA>
        for (y, x) in y.iter_mut().zip(x) {
            *y = 0.5 * x * (1.0 + erf::<FMA>(x * std::f32::consts::FRAC_1_SQRT_2));
        }
    }
}

/// dx = g gelu'(x).
pub fn gelu_grad(cx: &Context, step: &Step) -> Result<(), LowerError> {
    let (x, g) = (cx.source(step, 0), cx.source(step, 1));
    let place = cx.shared(step, 0);
    pieces(x.len(), CHUNK, |from, to| {
        // SAFETY: pieces do not overlap.
        unsafe {
            x.read(place, from, to, |x| {
                g.read(place, from, to, |g| place.write(from, to - from, |dx| gelu_grad_row(x, g, dx)));
            });
        }
    });
    Ok(())
}

simd! {
    fn gelu_grad_row(x: &[f32], g: &[f32], dx: &mut [f32]) { <FMA>
        for ((dx, x), g) in dx.iter_mut().zip(x).zip(g) {
            let share = fma::<FMA>(0.5, erf::<FMA>(x * std::f32::consts::FRAC_1_SQRT_2), 0.5);
            *dx = g * fma::<FMA>(x * DENSITY, exp_down::<FMA>(-0.5 * x * x), share);
        }
    }
}
