//! Elementwise ops of the IR.

use crate::ir::op::{BinaryOp, DType, UnaryOp};
use crate::lower::luminal::primitives::{Array, Binary, Primitives, Unary};

/// Exponents up to this are multiplied out.
const MULTIPLIED_POWER: f64 = 8.0;

/// A function of one argument.
pub(super) fn unary(p: &mut Primitives, op: UnaryOp, a: &Array) -> Array {
    match op {
        UnaryOp::Neg => p.neg(a),
        UnaryOp::Exp => p.exp(a),
        UnaryOp::Log => p.ln(a),
        UnaryOp::Sqrt => p.sqrt(a),
        UnaryOp::Abs => p.abs(a),
        UnaryOp::Sin => p.sin(a),
        UnaryOp::Cos => p.cos(a),
        UnaryOp::Tanh => p.tanh(a),
        UnaryOp::Erf => p.erf(a),
        UnaryOp::Floor => p.floor(a),
        UnaryOp::Ceil => p.ceil(a),
        UnaryOp::Round => p.round(a),
        UnaryOp::Sign => p.sign(a),
        UnaryOp::Not => p.not(a),
    }
}

/// A function of two arguments of element type `dtype`; `exponent` is the second one where it is a constant.
pub(super) fn binary(
    p: &mut Primitives,
    op: BinaryOp,
    dtype: DType,
    a: &Array,
    b: &Array,
    exponent: Option<f64>,
) -> Array {
    match op {
        BinaryOp::Add => p.add(a, b),
        BinaryOp::Sub => p.sub(a, b),
        BinaryOp::Mul => p.mul(a, b),
        BinaryOp::Div => match dtype {
            // Settings and indices: quotients that are whole numbers must come out whole.
            DType::F64 => p.div_exact(a, b),
            DType::I32 => {
                let quotient = p.div_exact(a, b);
                p.floor(&quotient)
            }
            DType::F32 | DType::Bf16 | DType::Bool => p.div(a, b),
        },
        BinaryOp::Rem => floored_rem(p, a, b),
        BinaryOp::Pow => match exponent {
            Some(e) if e.fract() == 0.0 && (1.0..=MULTIPLIED_POWER).contains(&e) => {
                let mut product = a.clone();
                for _ in 1..e as usize {
                    product = p.mul(&product, a);
                }
                product
            }
            Some(0.5) => p.sqrt(a),
            Some(-1.0) => p.recip(a),
            Some(_) | None => pow(p, a, b),
        },
        BinaryOp::Min => p.min_of(a, b),
        BinaryOp::Max => p.max_of(a, b),
        BinaryOp::Eq => p.equal(a, b),
        BinaryOp::Ne => p.unequal(a, b),
        BinaryOp::Lt => p.less(a, b),
        BinaryOp::Gt => p.less(b, a),
        BinaryOp::Le => {
            let more = p.less(b, a);
            p.not(&more)
        }
        BinaryOp::Ge => {
            let less = p.less(a, b);
            p.not(&less)
        }
        BinaryOp::And => p.mul(a, b),
        BinaryOp::Or => {
            // a + b - a b
            let both = p.mul(a, b);
            let sum = p.add(a, b);
            p.sub(&sum, &both)
        }
    }
}

/// Change of element type from `from` to `to`; all are stored as f32.
pub(super) fn cast(p: &mut Primitives, from: DType, to: DType, a: &Array) -> Array {
    match to {
        DType::F64 | DType::F32 => a.clone(),
        DType::Bf16 => p.round_bf16(a),
        DType::I32 => match from {
            DType::I32 | DType::Bool => a.clone(),
            DType::F64 | DType::F32 | DType::Bf16 => p.trunc(a),
        },
        DType::Bool => {
            let zero = p.number(0.0);
            p.unequal(a, &zero)
        }
    }
}

/// a mod b, truncated by luminal, plus b where the signs differ.
fn floored_rem(p: &mut Primitives, a: &Array, b: &Array) -> Array {
    let rem = p.binary(Binary::Mod, a, b);
    let (sign, other) = (p.sign(&rem), p.sign(b));
    let product = p.mul(&sign, &other);
    let zero = p.number(0.0);
    let differ = p.less(&product, &zero);
    let more = p.mul(&differ, b);
    p.add(&rem, &more)
}

/// 2^(b log2 |a|), negative where a is negative and b odd, NaN where a is negative and b not whole, 1 where b is 0.
fn pow(p: &mut Primitives, a: &Array, b: &Array) -> Array {
    let (zero, one) = (p.number(0.0), p.number(1.0));
    let size = p.abs(a);
    let size = p.log2(&size);
    let size = p.mul(&size, b);
    let size = p.unary(Unary::Exp2, &size);
    let negative = p.less(a, &zero);
    let whole = p.floor(b);
    let broken = p.unequal(&whole, b);
    let odd = p.odd(&whole);
    let flip = p.mul(&negative, &odd);
    let flip = p.scale(&flip, -2.0);
    let flip = p.offset(&flip, 1.0);
    let signed = p.mul(&size, &flip);
    // log2(1) = 0 adds nothing, log2(-1) is NaN.
    let bad = p.mul(&negative, &broken);
    let bad = p.scale(&bad, -2.0);
    let bad = p.offset(&bad, 1.0);
    let bad = p.log2(&bad);
    let power = p.add(&signed, &bad);
    let is_zero = p.equal(b, &zero);
    p.select(&is_zero, &one, &power)
}
