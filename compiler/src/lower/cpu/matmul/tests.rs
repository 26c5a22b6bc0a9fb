//! Every instruction set and element type against sums in f64, over ragged sizes, layouts and cuts.

use super::pack::Widen;
use super::*;
use crate::lower::cpu::lanes::bf16;

/// f32 sums of at most a thousand products of numbers of size 1, each rounded at 6e-8.
const F32: f64 = 1e-4;
/// A result rounded to bf16: half a step of 2^-8.
const BF16: f64 = 1.0 / 256.0;

struct Numbers(u64);

impl Numbers {
    /// A number of bf16, so that factors of either type are the same.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        bf16(((self.0 >> 40) as f32 / (1 << 23) as f32) - 1.0)
    }

    fn many(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }
}

/// A factor with the memory it lies in; the first bf16 of every other size lies where no 32-bit number would.
struct Held {
    wide: Vec<f32>,
    narrow: Vec<u16>,
    skip: usize,
    row: usize,
    col: usize,
}

impl Held {
    fn new(numbers: &mut Numbers, rows: usize, cols: usize, transposed: bool) -> Held {
        let wide = numbers.many(rows * cols);
        let skip = (rows + cols) % 2;
        let narrow = std::iter::repeat_n(0, skip).chain(wide.iter().map(|x| (x.to_bits() >> 16) as u16)).collect();
        let (row, col) = if transposed { (1, rows) } else { (cols, 1) };
        Held { wide, narrow, skip, row, col }
    }

    fn at(&self, i: usize, j: usize) -> f64 {
        f64::from(self.wide[i * self.row + j * self.col])
    }

    fn factor(&self, narrow: bool) -> Factor {
        let (row, col) = (self.row, self.col);
        if narrow {
            Factor::Bf16(Matrix { data: self.narrow[self.skip..].as_ptr(), row, col })
        } else {
            Factor::F32(Matrix { data: self.wide.as_ptr(), row, col })
        }
    }
}

const LAYOUTS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];
const TYPES: [(bool, bool); 4] = [(false, false), (true, true), (false, true), (true, false)];

/// Sizes m, n, k; whether a and b lie transposed; whether they are in bf16. Every set computes the same product.
fn check((m, n, k): (usize, usize, usize), (at, bt): (bool, bool), types: &[(bool, bool)]) {
    let mut numbers = Numbers((m * 31 + n * 7 + k) as u64);
    let (a, b) = (Held::new(&mut numbers, m, k, at), Held::new(&mut numbers, k, n, bt));
    let before = numbers.many(m * n);
    let want: Vec<f64> = (0..m * n).map(|i| (0..k).map(|t| a.at(i / n, t) * b.at(t, i % n)).sum()).collect();
    for (set, (a16, b16)) in Set::available().into_iter().flat_map(|set| types.iter().map(move |t| (set, *t))) {
        // Pairs are tested on every set: where they are no instruction, they are two of them.
        let kinds = if a16 && b16 { vec![Kind::Single, Kind::Pair] } else { vec![Kind::Single] };
        for (kind, add) in kinds.into_iter().flat_map(|k| [(k, false), (k, true)]) {
            let p = Product { a: a.factor(a16), b: b.factor(b16), m, n, k, add };
            let near = |name: &str, have: &dyn Fn(usize) -> f32, tolerance: &dyn Fn(f64) -> f64| {
                for (i, want) in want.iter().enumerate() {
                    let want = if add { want + f64::from(before[i]) } else { *want };
                    let (have, bound) = (f64::from(have(i)), tolerance(want));
                    let far = (want - have).abs();
                    assert!(far < bound, "{name} {set:?} {kind:?} {m} {n} {k} {at} {bt} {a16} {b16}: {want} {have}");
                }
            };
            let mut c = before.clone();
            rows_product(set, kind, &p, Out::f32(c.as_mut_ptr(), n), &|_| {});
            near("rows", &|i| c[i], &|_| F32);
            c.clone_from(&before);
            sum::sum_product(set, kind, &p, c.as_mut_ptr(), n);
            near("sum", &|i| c[i], &|_| F32);
            if !add {
                let mut c = vec![0u16; m * n];
                let out = Out::bf16(c.as_mut_ptr(), n);
                rows_product(set, kind, &p, out, &|row| row.iter_mut().for_each(|y| *y *= 2.0));
                near("bf16", &|i| f32::from_bits(u32::from(c[i]) << 16) / 2.0, &|want| F32 + BF16 * want.abs());
            }
        }
    }
}

/// Tiles of every height, over less than one vector of eight or sixteen columns up to more than two; even and odd sums.
#[test]
fn products_of_every_tile() {
    for m in 1..=13 {
        for n in [1, 7, 8, 9, 16, 17, 24, 32, 33] {
            for k in [2, 5] {
                LAYOUTS.into_iter().for_each(|layout| check((m, n, k), layout, &TYPES));
            }
        }
    }
}

#[test]
fn products_of_many_tiles() {
    for size in [(1, 1, 1), (97, 24, 80), (100, 88, 333), (301, 47, 700)] {
        LAYOUTS.into_iter().for_each(|layout| check(size, layout, &TYPES));
    }
    check((600, 400, 40), (true, false), &[(false, false)]);
}

#[test]
fn nothing_to_sum_is_zero_or_what_was_there() {
    let mut c = [3.0f32; 6];
    let empty = Factor::F32(Matrix { data: [0.0f32; 1].as_ptr(), row: 1, col: 1 });
    let p = Product { a: empty, b: empty, m: 2, n: 3, k: 0, add: true };
    // SAFETY: nothing is read.
    unsafe { product(&p, Out::f32(c.as_mut_ptr(), 3), &|_| {}) };
    assert_eq!(c, [3.0; 6]);
    unsafe { product(&Product { add: false, ..p }, Out::f32(c.as_mut_ptr(), 3), &|_| {}) };
    assert_eq!(c, [0.0; 6]);
}

#[test]
fn rounding_to_bf16_is_to_even_and_keeps_what_is_no_number() {
    let x: Vec<f32> = [0x3f80_8000, 0x3f81_8000, 0x3f80_8001, 0x7fc0_0001, 0x7f80_0001, 0xff80_0000, 0x7f7f_ffff]
        .map(f32::from_bits)
        .into_iter()
        .cycle()
        .take(41)
        .collect();
    for set in Set::available() {
        let mut y = vec![0u16; x.len()];
        let mut back = vec![0.0; x.len()];
        // SAFETY: the set is available.
        unsafe {
            dispatch_to(set, Narrow { from: &x, to: &mut y });
            dispatch_to(set, Widen { from: &y, to: &mut back });
        }
        for (x, back) in x.iter().zip(&back) {
            let want = bf16(*x);
            assert!(want.to_bits() == back.to_bits() || (want.is_nan() && back.is_nan()), "{set:?} {x} {back}");
        }
    }
}
