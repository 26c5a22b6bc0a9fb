//! Arithmetic that luminal's primitives lack, each function by a formula in them.
//!
//! Comparisons give 1 and 0, and a comparison with NaN is "not less": `a >= NaN` and `a == NaN` give 1. Choices between
//! values are exact for infinities; see [`Primitives::select`].

use std::f32::consts::{FRAC_1_SQRT_2, LN_2, LOG2_E, PI};

use crate::lower::luminal::primitives::{Array, Binary, Primitives, Reduce, Unary};

/// Abramowitz and Stegun 7.1.26: erf(x) = 1 - (a1 t + ... + a5 t^5) exp(-x^2), t = 1 / (1 + p x), for x >= 0; absolute
/// error 1.5e-7, and 4e-7 with the roundings of f32.
const ERF_P: f32 = 0.327_591_1;
const ERF_A: [f32; 5] = [0.254_829_6, -0.284_496_74, 1.421_413_7, -1.453_152, 1.061_405_4];

/// Splits an f32 of 24 bits after its first 8, the bits of bf16 (Veltkamp).
const BF16_SPLIT: f32 = 65_537.0;
/// Above this `BF16_SPLIT` times the number could overflow; bf16 rounding is left out there.
const BF16_LARGE: f32 = 1e33;

impl Primitives {
    pub(super) fn add(&mut self, a: &Array, b: &Array) -> Array {
        self.binary(Binary::Add, a, b)
    }

    pub(super) fn mul(&mut self, a: &Array, b: &Array) -> Array {
        self.binary(Binary::Mul, a, b)
    }

    /// 1 where a < b.
    pub(super) fn less(&mut self, a: &Array, b: &Array) -> Array {
        self.binary(Binary::LessThan, a, b)
    }

    pub(super) fn scale(&mut self, a: &Array, by: f32) -> Array {
        let by = self.number(by);
        self.mul(a, &by)
    }

    pub(super) fn offset(&mut self, a: &Array, by: f32) -> Array {
        let by = self.number(by);
        self.add(a, &by)
    }

    pub(super) fn neg(&mut self, a: &Array) -> Array {
        self.scale(a, -1.0)
    }

    pub(super) fn sub(&mut self, a: &Array, b: &Array) -> Array {
        let b = self.neg(b);
        self.add(a, &b)
    }

    pub(super) fn recip(&mut self, a: &Array) -> Array {
        self.unary(Unary::Recip, a)
    }

    /// a (1 / b), which is within two roundings of a / b.
    pub(super) fn div(&mut self, a: &Array, b: &Array) -> Array {
        let r = self.recip(b);
        self.mul(a, &r)
    }

    /// q + (a - q b) / b with q = a (1 / b): exact for whole numbers whose quotient is whole. b is not 0.
    pub(super) fn div_exact(&mut self, a: &Array, b: &Array) -> Array {
        let r = self.recip(b);
        let q = self.mul(a, &r);
        let product = self.mul(&q, b);
        let rest = self.sub(a, &product);
        let more = self.mul(&rest, &r);
        self.add(&q, &more)
    }

    pub(super) fn sqrt(&mut self, a: &Array) -> Array {
        self.unary(Unary::Sqrt, a)
    }

    /// 2^(x log2 e).
    pub(super) fn exp(&mut self, a: &Array) -> Array {
        let a = self.scale(a, LOG2_E);
        self.unary(Unary::Exp2, &a)
    }

    pub(super) fn log2(&mut self, a: &Array) -> Array {
        self.unary(Unary::Log2, a)
    }

    pub(super) fn ln(&mut self, a: &Array) -> Array {
        let a = self.log2(a);
        self.scale(&a, LN_2)
    }

    pub(super) fn sin(&mut self, a: &Array) -> Array {
        self.unary(Unary::Sin, a)
    }

    /// 1 - 2 sin(x / 2)^2.
    pub(super) fn cos(&mut self, a: &Array) -> Array {
        let half = self.scale(a, 0.5);
        let s = self.sin(&half);
        let s = self.mul(&s, &s);
        let s = self.scale(&s, -2.0);
        self.offset(&s, 1.0)
    }

    /// 2 / (1 + exp(-2 x)) - 1.
    pub(super) fn tanh(&mut self, a: &Array) -> Array {
        let e = self.scale(a, -2.0);
        let e = self.exp(&e);
        let e = self.offset(&e, 1.0);
        let e = self.recip(&e);
        let e = self.scale(&e, 2.0);
        self.offset(&e, -1.0)
    }

    pub(super) fn erf(&mut self, x: &Array) -> Array {
        let sign = self.sign(x);
        let positive = self.mul(x, &sign);
        let t = self.scale(&positive, ERF_P);
        let t = self.offset(&t, 1.0);
        let t = self.recip(&t);
        let mut sum = self.scale(&t, ERF_A[4]);
        for a in ERF_A[..4].iter().rev() {
            sum = self.offset(&sum, *a);
            sum = self.mul(&sum, &t);
        }
        let square = self.mul(x, x);
        let square = self.neg(&square);
        let e = self.exp(&square);
        let rest = self.mul(&sum, &e);
        let y = self.neg(&rest);
        let y = self.offset(&y, 1.0);
        self.mul(&y, &sign)
    }

    /// (1 + erf(x / sqrt 2)) / 2.
    pub(super) fn normal_cdf(&mut self, x: &Array) -> Array {
        let e = self.scale(x, FRAC_1_SQRT_2);
        let e = self.erf(&e);
        let e = self.scale(&e, 0.5);
        self.offset(&e, 0.5)
    }

    /// exp(-x^2 / 2) / sqrt(2 pi).
    pub(super) fn normal_pdf(&mut self, x: &Array) -> Array {
        let e = self.mul(x, x);
        let e = self.scale(&e, -0.5);
        let e = self.exp(&e);
        self.scale(&e, 1.0 / (2.0 * PI).sqrt())
    }

    /// -1, 0 or 1.
    pub(super) fn sign(&mut self, a: &Array) -> Array {
        let zero = self.number(0.0);
        let positive = self.less(&zero, a);
        let negative = self.less(a, &zero);
        self.sub(&positive, &negative)
    }

    pub(super) fn abs(&mut self, a: &Array) -> Array {
        let sign = self.sign(a);
        self.mul(a, &sign)
    }

    /// x - x mod 1: towards zero. Infinities give NaN, as in `floor`, `ceil` and `round`.
    pub(super) fn trunc(&mut self, a: &Array) -> Array {
        let one = self.number(1.0);
        let part = self.binary(Binary::Mod, a, &one);
        self.sub(a, &part)
    }

    pub(super) fn floor(&mut self, a: &Array) -> Array {
        let whole = self.trunc(a);
        let above = self.less(a, &whole);
        self.sub(&whole, &above)
    }

    pub(super) fn ceil(&mut self, a: &Array) -> Array {
        let a = self.neg(a);
        let a = self.floor(&a);
        self.neg(&a)
    }

    /// To the nearest whole number, half to even.
    pub(super) fn round(&mut self, a: &Array) -> Array {
        let floor = self.floor(a);
        let part = self.sub(a, &floor);
        let half = self.number(0.5);
        let above = self.less(&half, &part);
        let tie = self.equal(&half, &part);
        let odd = self.odd(&floor);
        let tie = self.mul(&tie, &odd);
        let up = self.add(&above, &tie);
        self.add(&floor, &up)
    }

    /// 1 where a whole number is odd.
    pub(super) fn odd(&mut self, a: &Array) -> Array {
        let two = self.number(2.0);
        let odd = self.binary(Binary::Mod, a, &two);
        self.abs(&odd)
    }

    /// 1 - x, for conditions.
    pub(super) fn not(&mut self, a: &Array) -> Array {
        let a = self.neg(a);
        self.offset(&a, 1.0)
    }

    pub(super) fn unequal(&mut self, a: &Array, b: &Array) -> Array {
        let less = self.less(a, b);
        let more = self.less(b, a);
        self.add(&less, &more)
    }

    pub(super) fn equal(&mut self, a: &Array, b: &Array) -> Array {
        let a = self.unequal(a, b);
        self.not(&a)
    }

    /// The largest along a new dim of two: exact, infinities included; NaN gives way to a number.
    pub(super) fn max_of(&mut self, a: &Array, b: &Array) -> Array {
        let a = a.expand(0, 1);
        let a = self.pad(&a, 0, 0, 1);
        let b = b.expand(0, 1);
        let b = self.pad(&b, 0, 1, 0);
        let both = self.add(&a, &b);
        self.reduce(Reduce::Max, &both, &[0])
    }

    pub(super) fn min_of(&mut self, a: &Array, b: &Array) -> Array {
        let (a, b) = (self.neg(a), self.neg(b));
        let m = self.max_of(&a, &b);
        self.neg(&m)
    }

    /// a where `c` is 1, b where it is 0: the larger of a + log2 c and b + log2 (1 - c), of which one is the value itself
    /// and the other minus infinity. Exact, infinities included; a chosen NaN becomes minus infinity.
    pub(super) fn select(&mut self, c: &Array, a: &Array, b: &Array) -> Array {
        let without = self.not(c);
        let keep_a = self.log2(c);
        let keep_b = self.log2(&without);
        let a = self.add(a, &keep_a);
        let b = self.add(b, &keep_b);
        self.max_of(&a, &b)
    }

    /// To the nearest bf16, in f32.
    pub(super) fn round_bf16(&mut self, a: &Array) -> Array {
        let c = self.scale(a, BF16_SPLIT);
        let rest = self.sub(&c, a);
        let rounded = self.sub(&c, &rest);
        let size = self.abs(a);
        let large = self.number(BF16_LARGE);
        let small = self.less(&size, &large);
        self.select(&small, &rounded, a)
    }

    pub(super) fn sum(&mut self, a: &Array, axes: &[usize]) -> Array {
        self.reduce(Reduce::Sum, a, axes)
    }

    pub(super) fn max(&mut self, a: &Array, axes: &[usize]) -> Array {
        self.reduce(Reduce::Max, a, axes)
    }

    pub(super) fn min(&mut self, a: &Array, axes: &[usize]) -> Array {
        let a = self.neg(a);
        let m = self.max(&a, axes);
        self.neg(&m)
    }

    pub(super) fn mean(&mut self, a: &Array, axes: &[usize]) -> Array {
        let n: usize = axes.iter().map(|i| a.dims()[*i]).product();
        let sum = self.sum(a, axes);
        self.scale(&sum, 1.0 / n as f32)
    }

    /// Arrays one after another along an axis: the sum of all, each with zeros for the others.
    pub(super) fn concat(&mut self, parts: &[Array], axis: usize) -> Array {
        let total: usize = parts.iter().map(|p| p.dims()[axis]).sum();
        let (mut before, mut sum) = (0, None);
        for part in parts {
            let n = part.dims()[axis];
            let padded = self.pad(part, axis, before, total - before - n);
            sum = Some(match sum {
                None => padded,
                Some(sum) => self.add(&sum, &padded),
            });
            before += n;
        }
        sum.expect("compiler bug: a join of nothing")
    }

    /// 0, 1, 2, ...
    pub(super) fn iota(&mut self, n: usize) -> Array {
        self.data((0..n).map(|i| i as f32).collect(), &[n])
    }

    /// [..] to [.., n]: 1 at the position that the number names.
    pub(super) fn one_hot(&mut self, index: &Array, n: usize) -> Array {
        let mut from = vec![None; index.dims().len()];
        from.push(Some(0));
        let mut dims = index.dims().to_vec();
        let index = index.expand(dims.len(), n);
        dims.push(n);
        let places = self.iota(n).arrange(&from, &dims);
        self.equal(&index, &places)
    }
}
