//! Functions of f32 that compile to vector instructions: exp and erf by polynomials, sums in fixed lanes.

pub use super::lanes::bf16;
use super::parallel::{fma, simd};

/// Adding 1.5 * 2^23 rounds to a whole number, which is then also in the low bits.
const ROUND: f32 = 12_582_912.0;

/// Below this e^x is no normal number.
const LEAST: f32 = -87.336_54;

/// e^r for |r| <= ln 2 / 2, where r = x - k ln 2; ln 2 in two parts, so that r is exact to f32.
#[inline(always)]
fn exp_rest<const FMA: bool>(x: f32, k: f32) -> f32 {
    let r = fma::<FMA>(k, -1.428_606_8e-6, fma::<FMA>(k, -0.693_145_75, x));
    let mut p = 1.987_569_1e-4;
    p = fma::<FMA>(p, r, 1.398_199_9e-3);
    p = fma::<FMA>(p, r, 8.333_452e-3);
    p = fma::<FMA>(p, r, 4.166_579_6e-2);
    p = fma::<FMA>(p, r, 1.666_666_5e-1);
    p = fma::<FMA>(p, r, 0.5);
    fma::<FMA>(p, r * r, r + 1.0)
}

/// e^x. Relative error below 2.5e-7; 0 below -87.3, and no more than e^88.7 above.
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    let clamped = x.clamp(LEAST, 88.722_83);
    let k = fma::<FMA>(clamped, std::f32::consts::LOG2_E, ROUND) - ROUND;
    // 2^k in two factors: k reaches 128.
    let half = (k as i32) >> 1;
    let rest = k as i32 - half;
    let power = |k: i32| f32::from_bits(((k + 127) << 23) as u32);
    let value = exp_rest::<FMA>(clamped, k) * power(half) * power(rest);
    if x < LEAST { 0.0 } else { value }
}

/// e^x for x <= 0, as [`exp`] and cheaper.
#[inline(always)]
pub fn exp_down<const FMA: bool>(x: f32) -> f32 {
    let clamped = if x < LEAST { LEAST } else { x };
    let rounded = fma::<FMA>(clamped, std::f32::consts::LOG2_E, ROUND);
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    let value = exp_rest::<FMA>(clamped, rounded - ROUND) * power;
    if x < LEAST { 0.0 } else { value }
}

/// The error function: a ratio of polynomials in x^2 on [-4, 4], absolute error below 4e-7.
#[inline(always)]
pub fn erf<const FMA: bool>(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let s = x * x;
    let mut p = -2.726_142e-10;
    p = fma::<FMA>(p, s, 2.770_681_4e-8);
    p = fma::<FMA>(p, s, -2.101_024_1e-6);
    p = fma::<FMA>(p, s, -5.692_506_4e-5);
    p = fma::<FMA>(p, s, -7.349_906_3e-4);
    p = fma::<FMA>(p, s, -2.954_6e-3);
    p = fma::<FMA>(p, s, -1.609_603_3e-2);
    let mut q = -1.456_607_2e-5;
    q = fma::<FMA>(q, s, -2.133_740_6e-4);
    q = fma::<FMA>(q, s, -1.682_826_9e-3);
    q = fma::<FMA>(q, s, -7.373_329e-3);
    q = fma::<FMA>(q, s, -1.426_473_9e-2);
    x * p / q
}

/// Lanes of the sums below: a fixed number, so that a sum has one order on every processor.
const LANES: usize = 32;

/// The sum of `f(x)` in a fixed order.
#[inline(always)]
fn lanes(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let parts = x.chunks_exact(LANES);
    let rest = parts.remainder();
    for part in parts {
        for i in 0..LANES {
            sums[i] += f(part[i]);
        }
    }
    for (sum, v) in sums.iter_mut().zip(rest) {
        *sum += f(*v);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            sums[i] += sums[i + width];
        }
        width /= 2;
    }
    sums[0]
}

/// The sum of a row.
#[inline(always)]
pub fn sum(x: &[f32]) -> f32 {
    lanes(x, |v| v)
}

/// The sum of squared distances from a mean.
#[inline(always)]
pub fn sum_squares(x: &[f32], mean: f32) -> f32 {
    lanes(x, |v| (v - mean) * (v - mean))
}

/// The sum of products of two rows of equal length.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (pa, pb) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (ra, rb) = (pa.remainder(), pb.remainder());
    for (x, y) in pa.zip(pb) {
        for i in 0..LANES {
            sums[i] += x[i] * y[i];
        }
    }
    for ((sum, x), y) in sums.iter_mut().zip(ra).zip(rb) {
        *sum += x * y;
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            sums[i] += sums[i + width];
        }
        width /= 2;
    }
    sums[0]
}

/// The largest element.
#[inline(always)]
pub fn largest(x: &[f32]) -> f32 {
    let mut tops = [f32::NEG_INFINITY; LANES];
    let parts = x.chunks_exact(LANES);
    let rest = parts.remainder();
    for part in parts {
        for i in 0..LANES {
            tops[i] = if part[i] > tops[i] { part[i] } else { tops[i] };
        }
    }
    for (top, v) in tops.iter_mut().zip(rest) {
        *top = if *v > *top { *v } else { *top };
    }
    tops.iter().fold(f32::NEG_INFINITY, |a, b| if *b > a { *b } else { a })
}

/// x = e^(x - max); the sum of the row.
#[inline(always)]
pub fn exp_and_sum<const FMA: bool>(x: &mut [f32]) -> f32 {
    let top = largest(x);
    let mut sums = [0.0f32; LANES];
    let mut parts = x.chunks_exact_mut(LANES);
    for part in &mut parts {
        for i in 0..LANES {
            part[i] = exp_down::<FMA>(part[i] - top);
            sums[i] += part[i];
        }
    }
    for (v, sum) in parts.into_remainder().iter_mut().zip(&mut sums) {
        *v = exp_down::<FMA>(*v - top);
        *sum += *v;
    }
    sum(&sums)
}

simd! {
    /// y = e^x.
    pub fn exp_row(x: &[f32], y: &mut [f32]) { <FMA>
        for (y, x) in y.iter_mut().zip(x) {
            *y = exp::<FMA>(*x);
        }
    }
}

simd! {
    /// y = erf x.
    pub fn erf_row(x: &[f32], y: &mut [f32]) { <FMA>
        for (y, x) in y.iter_mut().zip(x) {
            *y = erf::<FMA>(*x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_and_erf_are_near_the_exact_ones() {
        let x: Vec<f32> = (-200_000..200_000).map(|i| i as f32 * 4.4e-4).collect();
        let mut y = vec![0.0; x.len()];
        exp_row(&x, &mut y);
        for (x, y) in x.iter().zip(&y) {
            let exact = f64::from(*x).exp();
            // One rounding of the result and one of r; the smallest normal numbers are exempt.
            assert!((f64::from(*y) - exact).abs() <= 2.5e-7 * exact + 1e-37, "{x}: {y} {exact}");
        }
        let down = x.iter().filter(|x| **x <= 0.0).map(|x| (*x, exp_down::<false>(*x)));
        for (x, y) in down {
            let exact = f64::from(x).exp();
            assert!((f64::from(y) - exact).abs() <= 2.5e-7 * exact + 1e-37, "{x}: {y} {exact}");
        }
        assert!(exp_down::<false>(f32::NAN).is_nan() && exp_down::<false>(f32::NEG_INFINITY) == 0.0);
        erf_row(&x, &mut y);
        for (x, y) in x.iter().zip(&y) {
            assert!((f64::from(*y) - libm::erf(f64::from(*x))).abs() <= 4e-7, "{x}: {y}");
        }
    }

    #[test]
    fn sums_take_odd_lengths() {
        for n in [0usize, 1, 31, 32, 33, 100] {
            let x: Vec<f32> = (0..n).map(|i| i as f32).collect();
            assert_eq!(sum(&x), (n * n.saturating_sub(1) / 2) as f32);
            assert_eq!(dot(&x, &vec![2.0; n]), 2.0 * sum(&x));
            assert_eq!(largest(&x), if n == 0 { f32::NEG_INFINITY } else { (n - 1) as f32 });
        }
    }
}
