//! Every function of every instruction set that the processor has against numbers one at a time.

use super::*;

/// Bits of numbers that are hard to round: halves between two bf16 or whole numbers, the largest, the smallest normal and
/// smaller ones, infinities and what is not a number, also where half a step would carry its bits away.
const HARD: [u32; 23] = [
    0x0000_0000,
    0x8000_0000,
    0x3f80_7fff,
    0x3f80_8000,
    0x3f80_8001,
    0x3f81_8000,
    0xbf81_8000,
    0x7f7f_7fff,
    0x7f7f_8000,
    0xff7f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0001,
    0x7f80_0001,
    0xffff_ffff,
    0x7fff_ffff,
    0x0080_0000,
    0x007f_ffff,
    0x8001_8000,
    0x0000_0001,
    0x3f00_0000,
    0xc020_0000,
    0x4b3f_ffff,
];
/// Two products and two sums, each rounded at 2^-24 of at most the sum of sizes.
const DOT: f64 = 2.4e-7;

struct Numbers(Set);

/// N numbers of a function of the lane.
#[inline(always)]
unsafe fn of<S: Lanes>(f: impl Fn(usize) -> f32) -> S::V {
    let lanes: Vec<f32> = (0..S::N).map(f).collect();
    unsafe { S::load(lanes.as_ptr()) }
}

/// Holds each lane against a test that says what is wrong.
#[inline(always)]
unsafe fn each<S: Lanes>(v: S::V, test: impl Fn(usize, f32)) {
    let mut lanes = vec![7.0; S::N];
    unsafe { S::store(lanes.as_mut_ptr(), v) };
    lanes.into_iter().enumerate().for_each(|(i, x)| test(i, x));
}

fn same(want: f32, have: f32) -> bool {
    want.to_bits() == have.to_bits() || (want.is_nan() && have.is_nan())
}

/// True for a rounding to bf16 that the set may do: some make zeros of what is smaller than the smallest normal number.
fn rounds(set: Set, x: f32, have: f32) -> bool {
    let flushed = set.multiplies_pairs() && x.is_subnormal();
    same(bf16(x), have) || (flushed && same(0.0f32.copysign(x), have))
}

impl Kernel for Numbers {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Lanes>(self) {
        let set = self.0;
        unsafe {
            parts::<S>(set);
            for shift in 0..HARD.len() {
                arithmetic::<S>(set, shift);
                halves::<S>(set, shift);
            }
            powers::<S>(set);
            dots::<S>(set);
        }
    }
}

/// Loads and stores of some lanes leave the others alone.
#[inline(always)]
unsafe fn parts<S: Lanes>(set: Set) {
    let from: Vec<f32> = (1..=S::N).map(|i| i as f32).collect();
    for n in 0..=S::N {
        let mut to = vec![-1.0; S::N];
        unsafe {
            let part = S::load_part(from.as_ptr(), n);
            each::<S>(part, |i, x| assert_eq!(x, if i < n { from[i] } else { 0.0 }, "{set:?} load_part {n}"));
            S::store_part(to.as_mut_ptr(), S::load(from.as_ptr()), n);
        }
        for (i, x) in to.into_iter().enumerate() {
            assert_eq!(x, if i < n { from[i] } else { -1.0 }, "{set:?} store_part {n}");
        }
    }
    unsafe {
        each::<S>(S::splat(2.5), |_, x| assert_eq!(x, 2.5));
        each::<S>(S::zero(), |_, x| assert!(same(x, 0.0)));
    }
}

#[inline(always)]
unsafe fn arithmetic<S: Lanes>(set: Set, shift: usize) {
    let hard = |i: usize| f32::from_bits(HARD[i % HARD.len()]);
    let (a, b, c) = (|i: usize| hard(i), |i: usize| hard(i + shift), |i: usize| hard(2 * i + 3 * shift + 1));
    unsafe {
        let (x, y, z) = (of::<S>(a), of::<S>(b), of::<S>(c));
        each::<S>(S::add(x, y), |i, r| assert!(same(a(i) + b(i), r), "{set:?} {} + {}: {r}", a(i), b(i)));
        each::<S>(S::sub(x, y), |i, r| assert!(same(a(i) - b(i), r), "{set:?} {} - {}: {r}", a(i), b(i)));
        each::<S>(S::mul(x, y), |i, r| assert!(same(a(i) * b(i), r), "{set:?} {} * {}: {r}", a(i), b(i)));
        each::<S>(S::fma(x, y, z), |i, r| {
            let twice = set == Set::Portable && same(a(i) * b(i) + c(i), r);
            assert!(same(a(i).mul_add(b(i), c(i)), r) || twice, "{set:?} {} * {} + {}: {r}", a(i), b(i), c(i));
        });
        // Zeros of either sign are equal; the second is the answer if there is one that is not a number.
        each::<S>(S::max(x, y), |i, r| {
            let want = if a(i) > b(i) { a(i) } else { b(i) };
            assert!(same(want, r) || want == r, "{set:?} max {} {}: {r}", a(i), b(i));
        });
        let near = |i: usize| if a(i).abs() < 4e6 { a(i) } else { 1.5 };
        each::<S>(S::round(of::<S>(near)), |i, r| {
            assert_eq!(near(i).round_ties_even(), r, "{set:?} round {}", near(i));
        });
    }
}

/// bf16, widened, rounded, and in pairs.
#[inline(always)]
unsafe fn halves<S: Lanes>(set: Set, shift: usize) {
    let hard = |i: usize| f32::from_bits(HARD[(i + shift) % HARD.len()]);
    let narrow = |i: usize| (HARD[(i + shift) % HARD.len()] >> 16) as u16;
    let widened = |x: u16| f32::from_bits(u32::from(x) << 16);
    // Not where 32-bit numbers would lie.
    let rows: Vec<u16> = (0..2 * S::N + 1).map(narrow).collect();
    let (first, second) = (&rows[1..=S::N], &rows[S::N + 1..]);
    unsafe {
        each::<S>(S::load_bf16(first.as_ptr()), |i, r| assert!(same(widened(first[i]), r), "{set:?} load_bf16 {i}"));
        let pairs = S::pairs(first.as_ptr(), second.as_ptr());
        each::<S>(S::low(pairs), |i, r| assert!(same(widened(first[i]), r), "{set:?} low {i}: {r}"));
        each::<S>(S::high(pairs), |i, r| assert!(same(widened(second[i]), r), "{set:?} high {i}: {r}"));
        let mut stored = vec![7u16; S::N + 2];
        S::store_bf16(stored.as_mut_ptr().add(1), of::<S>(hard));
        for i in 0..S::N {
            let have = widened(stored[i + 1]);
            assert!(rounds(set, hard(i), have), "{set:?} store_bf16 {}: {have}", hard(i));
        }
        assert_eq!((stored[0], stored[S::N + 1]), (7, 7), "{set:?} store_bf16 writes more than its lanes");
        let other = |i: usize| hard(3 * i + 5);
        let joined = S::join(of::<S>(hard), of::<S>(other));
        each::<S>(S::low(joined), |i, r| assert!(rounds(set, hard(i), r), "{set:?} join {}: {r}", hard(i)));
        each::<S>(S::high(joined), |i, r| assert!(rounds(set, other(i), r), "{set:?} join {}: {r}", other(i)));
    }
}

/// 2^n for all n that are allowed.
#[inline(always)]
unsafe fn powers<S: Lanes>(set: Set) {
    for first in (-126..=127).step_by(S::N) {
        let n = |i: usize| (first + i as i32).min(127);
        for x in [1.0f32, 1.25, std::f32::consts::FRAC_1_SQRT_2, std::f32::consts::SQRT_2] {
            let scaled = unsafe { S::scale(S::splat(x), of::<S>(|i| n(i) as f32)) };
            let want = |i: usize| (f64::from(x) * 2f64.powi(n(i))) as f32;
            unsafe { each::<S>(scaled, |i, r| assert!(same(want(i), r), "{set:?} {x} 2^{}: {r}", n(i))) };
        }
    }
}

/// Whole numbers exactly; others with what the roundings leave, and in any order.
#[inline(always)]
unsafe fn dots<S: Lanes>(set: Set) {
    let mut state = 5u64;
    for round in 0..200 {
        let mut number = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let whole = (state >> 56) as f32 - 128.0;
            bf16(if round % 2 == 0 { whole } else { whole * ((state >> 33) % 977) as f32 / 977.0 })
        };
        let many: [Vec<f32>; 5] = std::array::from_fn(|_| (0..S::N).map(|_| number()).collect());
        let [a0, a1, b0, b1, acc] = &many;
        let sum = unsafe {
            let [a0, a1, b0, b1, acc] = [a0, a1, b0, b1, acc].map(|x| S::load(x.as_ptr()));
            S::dot_pairs(S::join(a0, a1), S::join(b0, b1), acc)
        };
        let exact = |i: usize| [a0[i] * b0[i], a1[i] * b1[i], acc[i]].map(f64::from);
        let test = |i: usize, r: f32| {
            let parts = exact(i);
            let bound = if round % 2 == 0 { 0.0 } else { DOT * parts.iter().map(|x| x.abs()).sum::<f64>() };
            let want = parts.iter().sum::<f64>();
            assert!((want - f64::from(r)).abs() <= bound, "{set:?} dot_pairs: {want}, {r}");
        };
        unsafe { each::<S>(sum, test) };
    }
}

#[test]
fn lanes_compute_what_numbers_do() {
    for set in Set::available() {
        // SAFETY: the set is available.
        unsafe { dispatch_to(set, Numbers(set)) };
    }
}
