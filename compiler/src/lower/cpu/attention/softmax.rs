//! Softmax down the columns of a tile of scores, and its gradient.
//!
//! A tile is [keys, columns], columns a multiple of the vectors' width. Exponentials are powers of 2:
//! 2^t with t = s c - top and c = scale log2 e, top being the largest s c: relative error below 1e-6 where the result is
//! above e^-14, and 2^-126 where it would be smaller than that.

use crate::lower::cpu::lanes::{Kernel, Lanes};

/// 2^t for -126 <= t <= 0, relative error 2e-7: t = n + f with |f| <= 1/2.
#[inline(always)]
pub unsafe fn exp2<S: Lanes>(t: S::V) -> S::V {
    unsafe {
        // In this order `max` lets what is not a number through.
        let t = S::max(S::splat(-126.0), t);
        let n = S::round(t);
        let f = S::sub(t, n);
        let mut p = S::splat(1.535_336_2e-4);
        for c in [1.339_887_4e-3, 9.618_437e-3, 5.550_332_6e-2, 2.402_264_7e-1, 6.931_472e-1, 1.0] {
            p = S::fma(p, f, S::splat(c));
        }
        S::scale(p, n)
    }
}

/// Replaces scores by 2^(s c - top), with the running top and sum of every column.
pub struct Exps<'a> {
    /// [keys, columns]
    pub tile: &'a mut [f32],
    /// Columns.
    pub columns: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Largest s c of each column so far; -inf before the first tile.
    pub top: &'a mut [f32],
    /// Sum of each column so far.
    pub sum: &'a mut [f32],
    /// What earlier results of each column are to be multiplied by, because the top has grown.
    pub factor: &'a mut [f32],
}

impl Kernel for Exps<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Lanes>(self) {
        let keys = self.tile.len() / self.columns;
        assert!(self.columns.is_multiple_of(2 * S::N) && self.top.len().min(self.sum.len()) >= self.columns);
        assert!(self.factor.len() >= self.columns);
        // Two vectors of columns at a time: a line of the tile.
        for at in (0..self.columns).step_by(2 * S::N) {
            // SAFETY: the columns lie in the tile.
            unsafe {
                let c = S::splat(self.scale * std::f32::consts::LOG2_E);
                let tile = self.tile.as_mut_ptr().add(at);
                let place = |v: usize| at + v * S::N;
                let old: [S::V; 2] = std::array::from_fn(|v| S::load(self.top.as_ptr().add(place(v))));
                let mut top = old;
                for key in 0..keys {
                    for v in 0..2 {
                        let score = S::load(tile.add(key * self.columns + v * S::N));
                        top[v] = S::max(top[v], S::mul(score, c));
                    }
                }
                let mut sum = [S::zero(); 2];
                for key in 0..keys {
                    for v in 0..2 {
                        let p = tile.add(key * self.columns + v * S::N);
                        let e = exp2::<S>(S::fma(S::load(p), c, S::sub(S::zero(), top[v])));
                        sum[v] = S::add(sum[v], e);
                        S::store(p, e);
                    }
                }
                for v in 0..2 {
                    let factor = exp2::<S>(S::sub(old[v], top[v]));
                    let before = S::load(self.sum.as_ptr().add(place(v)));
                    S::store(self.sum.as_mut_ptr().add(place(v)), S::fma(before, factor, sum[v]));
                    S::store(self.factor.as_mut_ptr().add(place(v)), factor);
                    S::store(self.top.as_mut_ptr().add(place(v)), top[v]);
                }
            }
        }
    }
}

/// dp = exps r (dp - d), for numbers r and d a column: the gradient of scores, their factor in r.
pub struct ScoreGrad<'a> {
    /// [keys, columns]
    pub exps: &'a [f32],
    /// [keys, columns]
    pub dp: &'a mut [f32],
    /// Columns.
    pub columns: usize,
    /// Factor over sum.
    pub r: &'a [f32],
    /// Row sums of gradient times result.
    pub d: &'a [f32],
}

impl Kernel for ScoreGrad<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Lanes>(self) {
        assert!(self.exps.len() == self.dp.len() && self.columns.is_multiple_of(2 * S::N));
        assert!(self.r.len().min(self.d.len()) >= self.columns);
        let keys = self.dp.len() / self.columns;
        for at in (0..self.columns).step_by(2 * S::N) {
            // SAFETY: the columns lie in the tiles.
            unsafe {
                let r: [S::V; 2] = std::array::from_fn(|v| S::load(self.r.as_ptr().add(at + v * S::N)));
                let d: [S::V; 2] = std::array::from_fn(|v| S::load(self.d.as_ptr().add(at + v * S::N)));
                for key in 0..keys {
                    for v in 0..2 {
                        let place = at + key * self.columns + v * S::N;
                        let e = S::mul(S::load(self.exps.as_ptr().add(place)), r[v]);
                        let p = self.dp.as_mut_ptr().add(place);
                        S::store(p, S::mul(e, S::sub(S::load(p), d[v])));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::cpu::lanes::{Set, dispatch_to};

    /// One rounding of t, whose size is at most 30, and one of the result.
    const EXP: f64 = 3e-6;

    #[test]
    fn exponentials_over_two_tiles_are_those_of_one() {
        let columns = 32;
        let score =
            |key: usize, column: usize| ((key * 37 + column * 11) % 101) as f32 / 10.0 - (key == 3) as i32 as f32;
        for set in Set::available() {
            let (mut top, mut sum) = (vec![f32::NEG_INFINITY; columns], vec![0.0; columns]);
            let mut factor = vec![1.0; columns];
            for keys in [0..5, 5..19] {
                let mut tile: Vec<f32> =
                    keys.flat_map(|key| (0..columns).map(move |column| score(key, column))).collect();
                let (top, sum, factor) = (&mut top[..], &mut sum[..], &mut factor[..]);
                // SAFETY: the set is available.
                unsafe { dispatch_to(set, Exps { tile: &mut tile, columns, scale: 0.5, top, sum, factor }) };
            }
            for column in 0..columns {
                let want = (0..19).map(|key| score(key, column)).fold(f32::NEG_INFINITY, f32::max);
                assert!((top[column] - want * 0.5 * std::f32::consts::LOG2_E).abs() < 1e-5);
                let exact: f64 = (0..19).map(|key| (0.5 * f64::from(score(key, column) - want)).exp()).sum();
                assert!((f64::from(sum[column]) - exact).abs() < EXP * exact, "{set:?} {column}");
            }
        }
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        for set in Set::available() {
            let columns = 32;
            let mut tile = vec![0.0; 2 * columns];
            tile[columns + 7] = f32::NAN;
            let (mut top, mut sum) = (vec![f32::NEG_INFINITY; columns], vec![0.0; columns]);
            let mut factor = vec![0.0; columns];
            let exps = Exps { tile: &mut tile, columns, scale: 1.0, top: &mut top, sum: &mut sum, factor: &mut factor };
            // SAFETY: the set is available.
            unsafe { dispatch_to(set, exps) };
            assert!(sum[7].is_nan() && sum[8] == 2.0);
        }
    }
}
