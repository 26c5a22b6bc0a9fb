//! Update rules. Inputs without dims are numbers of the step; those that are constants of it are taken in f64, because
//! 1 - 0.999 in f32 would be wrong in its fifth digit.

use super::step::Blocks;
use crate::lower::luminal::primitives::{Array, Primitives, Unary};

/// 1 - x.
fn rest(p: &mut Primitives, x: &Blocks) -> Array {
    match x.known {
        Some(x) => p.number((1.0 - x) as f32),
        None => p.not(&x.arrays[0]),
    }
}

/// 1 / (1 - beta^t).
fn correction(p: &mut Primitives, beta: &Blocks, t: &Blocks) -> Array {
    if let (Some(beta), Some(t)) = (beta.known, t.known) {
        return p.number((1.0 / (1.0 - libm::pow(beta, t))) as f32);
    }
    let power = p.log2(&beta.arrays[0]);
    let power = p.mul(&power, &t.arrays[0]);
    let power = p.unary(Unary::Exp2, &power);
    let power = p.not(&power);
    p.recip(&power)
}

/// New w, m and v; inputs as of `Op::Adamw`.
pub(super) fn adamw(p: &mut Primitives, w: &Array, m: &Array, v: &Array, inputs: &[Blocks]) -> [Array; 3] {
    let [g, clip, lr, decay, t, b1, b2, eps] = inputs else { panic!("compiler bug: AdamW takes eight inputs") };
    let g = p.mul(&g.arrays[0], &clip.arrays[0]);
    let w = decayed(p, w, &lr.arrays[0], &decay.arrays[0]);
    // m = b1 m + (1 - b1) g
    let m = p.mul(m, &b1.arrays[0]);
    let part = rest(p, b1);
    let part = p.mul(&g, &part);
    let m = p.add(&m, &part);
    // v = b2 v + (1 - b2) g^2
    let v = p.mul(v, &b2.arrays[0]);
    let part = rest(p, b2);
    let square = p.mul(&g, &g);
    let part = p.mul(&square, &part);
    let v = p.add(&v, &part);
    // w -= lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)
    let (first, second) = (correction(p, b1, t), correction(p, b2, t));
    let root = p.mul(&v, &second);
    let root = p.sqrt(&root);
    let root = p.add(&root, &eps.arrays[0]);
    let step = p.mul(&m, &first);
    let step = p.div(&step, &root);
    let step = p.mul(&step, &lr.arrays[0]);
    [p.sub(&w, &step), m, v]
}

/// New w, and m if there is one; inputs as of `Op::Sgd`.
pub(super) fn sgd(p: &mut Primitives, w: &Array, m: Option<&Array>, inputs: &[Blocks]) -> (Array, Option<Array>) {
    let [g, clip, lr, decay, momentum] = inputs else { panic!("compiler bug: SGD takes five inputs") };
    let g = p.mul(&g.arrays[0], &clip.arrays[0]);
    let w = decayed(p, w, &lr.arrays[0], &decay.arrays[0]);
    let m = m.map(|m| {
        let m = p.mul(m, &momentum.arrays[0]);
        p.add(&m, &g)
    });
    let step = p.mul(m.as_ref().unwrap_or(&g), &lr.arrays[0]);
    (p.sub(&w, &step), m)
}

/// m average + (1 - m) value.
pub(super) fn ema(p: &mut Primitives, average: &Array, value: &Array, m: &Blocks) -> Array {
    let kept = p.mul(average, &m.arrays[0]);
    let part = rest(p, m);
    let part = p.mul(value, &part);
    p.add(&kept, &part)
}

/// w (1 - lr decay).
fn decayed(p: &mut Primitives, w: &Array, lr: &Array, decay: &Array) -> Array {
    let factor = p.mul(lr, decay);
    let factor = p.not(&factor);
    p.mul(w, &factor)
}
