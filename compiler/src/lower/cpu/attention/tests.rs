//! Every instruction set and kind of product against sums in f64, for ragged sizes and the head widths in use.

use super::operands::Products;
use super::*;
use crate::lower::cpu::lanes::bf16;
use crate::lower::cpu::matmul::Matrix;
use crate::lower::cpu::matmul::micro::Kind;

/// f32: some hundred terms, and exponentials good to 1e-6.
const F32: f64 = 2e-5;
/// Exponentials, gradients of scores and results are rounded to bf16 on the way: 2^-9 each, some of which add up.
const BF16: f64 = 1.0 / 64.0;

/// A head [rows, width] of numbers of bf16, in both types.
struct Held {
    wide: Vec<f32>,
    narrow: Vec<u16>,
    width: usize,
}

impl Held {
    fn new(seed: usize, rows: usize, width: usize) -> Held {
        let number = |i: usize| bf16((((i * 7919 + seed * 104_729) % 1009) as f32 / 504.0) - 1.0);
        let wide: Vec<f32> = (0..rows * width).map(number).collect();
        Held { narrow: wide.iter().map(|x| (x.to_bits() >> 16) as u16).collect(), wide, width }
    }

    fn factor(&self, narrow: bool) -> Factor {
        let row = self.width;
        if narrow {
            Factor::Bf16(Matrix { data: self.narrow.as_ptr(), row, col: 1 })
        } else {
            Factor::F32(Matrix { data: self.wide.as_ptr(), row, col: 1 })
        }
    }

    fn at(&self, i: usize, j: usize) -> f64 {
        f64::from(self.wide[i * self.width + j])
    }
}

/// Result, and gradients of q, k and v for a result's gradient g, in f64.
fn exact(s: Sizes, [q, k, v, g]: [&Held; 4]) -> [Vec<f64>; 4] {
    let scale = f64::from(s.scale);
    let (mut out, mut dq, mut dk, mut dv) =
        (vec![0.0; s.n * s.e], vec![0.0; s.n * s.d], vec![0.0; s.m * s.d], vec![0.0; s.m * s.e]);
    for i in 0..s.n {
        let scores: Vec<f64> =
            (0..s.m).map(|j| scale * (0..s.d).map(|t| q.at(i, t) * k.at(j, t)).sum::<f64>()).collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|x| (x - top).exp()).sum();
        let p: Vec<f64> = scores.iter().map(|x| (x - top).exp() / sum).collect();
        let dp: Vec<f64> = (0..s.m).map(|j| (0..s.e).map(|t| g.at(i, t) * v.at(j, t)).sum()).collect();
        let mean: f64 = p.iter().zip(&dp).map(|(p, d)| p * d).sum();
        for j in 0..s.m {
            let ds = scale * p[j] * (dp[j] - mean);
            for t in 0..s.e {
                out[i * s.e + t] += p[j] * v.at(j, t);
                dv[j * s.e + t] += p[j] * g.at(i, t);
            }
            for t in 0..s.d {
                dq[i * s.d + t] += ds * k.at(j, t);
                dk[j * s.d + t] += ds * q.at(i, t);
            }
        }
    }
    [out, dq, dk, dv]
}

/// Sizes of a head, and ways to compute it: sets, terms, and whether everything is in bf16.
fn check(s: Sizes, kinds: &[(Kind, bool)]) {
    let [q, k, v, g] = [(1, s.n, s.d), (2, s.m, s.d), (3, s.m, s.e), (4, s.n, s.e)].map(|(i, r, w)| Held::new(i, r, w));
    let want = exact(s, [&q, &k, &v, &g]);
    for set in Set::available() {
        for (kind, narrow) in kinds {
            compare(Products { set, kind: *kind }, *narrow, s, [&q, &k, &v, &g], &want);
        }
    }
}

fn compare(p: Products, narrow: bool, s: Sizes, [q, k, v, g]: [&Held; 4], want: &[Vec<f64>; 4]) {
    let mut out = Held { wide: vec![0.0; s.n * s.e], narrow: vec![0; s.n * s.e], width: s.e };
    let mut grads = [vec![0.0f32; s.n * s.d], vec![0.0; s.m * s.d], vec![0.0; s.m * s.e]];
    let mut thin: [Vec<u16>; 3] = std::array::from_fn(|i| vec![0; grads[i].len()]);
    let y = if narrow { Out::bf16(out.narrow.as_mut_ptr(), s.e) } else { Out::f32(out.wide.as_mut_ptr(), s.e) };
    let [fq, fk, fv, fg] = [q, k, v, g].map(|h| h.factor(narrow));
    for first in (0..s.n).step_by(forward::QUERIES) {
        forward::queries(p, &forward::Heads { q: fq, k: fk, v: fv, y }, s, first);
    }
    let widths = [s.d, s.d, s.e];
    let [dq, dk, dv]: [Out; 3] = std::array::from_fn(|i| {
        if narrow { Out::bf16(thin[i].as_mut_ptr(), widths[i]) } else { Out::f32(grads[i].as_mut_ptr(), widths[i]) }
    });
    let heads = backward::Heads { q: fq, k: fk, v: fv, out: out.factor(narrow), g: fg, dq, dk, dv };
    backward::head(p, &heads, s);
    let wide = |x: &[u16]| x.iter().map(|x| f32::from_bits(u32::from(*x) << 16)).collect::<Vec<_>>();
    let [a, b, c] = grads;
    let have =
        if narrow { [wide(&out.narrow), wide(&thin[0]), wide(&thin[1]), wide(&thin[2])] } else { [out.wide, a, b, c] };
    for (name, (want, have)) in ["out", "dq", "dk", "dv"].into_iter().zip(want.iter().zip(&have)) {
        let largest = want.iter().fold(0.0f64, |a, x| a.max(x.abs()));
        let bound = if narrow { BF16 } else { F32 } * largest.max(1e-3);
        for (i, (want, have)) in want.iter().zip(have).enumerate() {
            let far = (want - f64::from(*have)).abs();
            assert!(far <= bound, "{name} {i} of {:?} {:?} {} x {} x {}: {want} {have}", p.set, p.kind, s.n, s.m, s.d);
        }
    }
}

#[test]
fn heads_of_all_widths() {
    // Where pairs are no instruction, they are two: so that their packing is tested everywhere.
    let kinds = [(Kind::Single, false), (Kind::Single, true), (Kind::Pair, true)];
    let widths = [(6, 6), (7, 5), (24, 24), (32, 32), (64, 64), (80, 80), (88, 88), (128, 128), (16, 48)];
    for (i, (d, e)) in widths.into_iter().enumerate() {
        for (n, m) in [(1, 1), (13, 29), (100, 131 + i), (97, 300)] {
            check(Sizes { n, m, d, e, scale: 1.0 / (d as f32).sqrt() }, &kinds);
        }
    }
}

#[test]
fn a_negative_scale_turns_the_order_of_scores() {
    check(Sizes { n: 20, m: 150, d: 16, e: 16, scale: -3.0 }, &[(Kind::Single, false)]);
}
