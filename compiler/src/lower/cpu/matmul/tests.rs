//! Every instruction set against sums in f64, over ragged sizes, layouts and cuts.

use super::*;

/// f32 sums of some hundred products of numbers of size 1, each rounded at 6e-8.
const F32: f64 = 1e-4;

struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 40) as f32 / (1 << 23) as f32) - 1.0
    }

    fn many(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }
}

/// Sizes m, n, k; whether a and b lie transposed; whether the result is added to.
fn check(set: Set, (m, n, k): (usize, usize, usize), (at, bt): (bool, bool), add: bool) {
    let mut numbers = Numbers((m * 31 + n * 7 + k) as u64);
    let (a, b, before) = (numbers.many(m * k), numbers.many(k * n), numbers.many(m * n));
    let layout = |t: bool, rows: usize, cols: usize| if t { (1, rows) } else { (cols, 1) };
    let ((ar, ac), (br, bc)) = (layout(at, m, k), layout(bt, k, n));
    let (a, b) = (Matrix { data: a.as_ptr(), row: ar, col: ac }, Matrix { data: b.as_ptr(), row: br, col: bc });
    let p = Product { a, b, m, n, k, add };
    for by_sum in [false, true] {
        let mut c = before.clone();
        let out = Shared::new(&mut c);
        if by_sum {
            sum_product(set, &p, out, n)
        } else {
            rows_product(set, &p, out, n, &|_, _| {})
        };
        for i in 0..m {
            for j in 0..n {
                // SAFETY: inside the matrices.
                let term = |t: usize| unsafe {
                    f64::from(*a.data.add(i * ar + t * ac)) * f64::from(*b.data.add(t * br + j * bc))
                };
                let start = if add { f64::from(before[i * n + j]) } else { 0.0 };
                let want: f64 = start + (0..k).map(term).sum::<f64>();
                let have = f64::from(c[i * n + j]);
                assert!((want - have).abs() < F32, "{set:?} {m} {n} {k} {at} {bt} {add} at {i} {j}: {want} {have}");
            }
        }
    }
}

#[test]
fn products_of_ragged_sizes() {
    for set in Set::available() {
        for size in [(1, 1, 1), (5, 7, 3), (12, 32, 16), (13, 33, 17), (97, 24, 80), (100, 88, 333), (301, 47, 1100)] {
            for at in [false, true] {
                for bt in [false, true] {
                    check(set, size, (at, bt), size.2 % 2 == 1);
                }
            }
        }
        check(set, (600, 400, 40), (true, false), false);
    }
}

#[test]
fn nothing_to_sum_is_zero_or_what_was_there() {
    let mut c = [3.0f32; 6];
    let empty = Matrix { data: [0.0f32; 1].as_ptr(), row: 1, col: 1 };
    let p = Product { a: empty, b: empty, m: 2, n: 3, k: 0, add: true };
    // SAFETY: nothing is read.
    unsafe { product(&p, c.as_mut_ptr(), 3, &|_, _| {}) };
    assert_eq!(c, [3.0; 6]);
    unsafe { product(&Product { add: false, ..p }, c.as_mut_ptr(), 3, &|_, _| {}) };
    assert_eq!(c, [0.0; 6]);
}
