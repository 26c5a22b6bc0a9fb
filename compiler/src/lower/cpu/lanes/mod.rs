//! Vectors of f32, and one kernel source for every instruction set.
//!
//! A kernel is a [`Kernel`]: a struct of its arguments with one generic `run`, written against [`Lanes`]. [`dispatch`]
//! compiles it once for each set and chooses at run time. On aarch64 the portable lanes are what the compiler makes NEON
//! of, so there is no file for it.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

/// A vector register of f32.
///
/// # Safety
/// All functions: the processor has the instructions of the set, and pointers are good for the lanes that they touch.
pub trait Lanes: Copy + 'static {
    /// The register.
    type V: Copy;
    /// Numbers in it.
    const N: usize;
    /// Rows of a product's register tile: tile rows x 2 accumulators, 2 columns and a factor fit the registers.
    const ROWS: usize;

    /// x in every lane.
    unsafe fn splat(x: f32) -> Self::V;
    /// N numbers.
    unsafe fn load(p: *const f32) -> Self::V;
    /// The first n numbers, the other lanes 0.
    unsafe fn load_part(p: *const f32, n: usize) -> Self::V;
    /// Writes N numbers.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// Writes the first n numbers.
    unsafe fn store_part(p: *mut f32, v: Self::V, n: usize);
    /// a b + c, rounded once.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// a + b
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// a - b
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// a b
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// The larger of each lane; b if either is not a number.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// x 2^n for whole n in -126 ..= 127.
    unsafe fn scale(x: Self::V, n: Self::V) -> Self::V;
    /// The nearest whole number, ties to even.
    unsafe fn round(x: Self::V) -> Self::V;
    /// N bf16, widened.
    unsafe fn load_bf16(p: *const u16) -> Self::V;
    /// Writes N numbers as bf16, half to even; what is smaller than 2^-126 may become 0.
    unsafe fn store_bf16(p: *mut u16, v: Self::V);
    /// For each lane's 32 bits seen as two bf16: the first, the one with the lower address.
    unsafe fn low(v: Self::V) -> Self::V;
    /// And the second.
    unsafe fn high(v: Self::V) -> Self::V;
    /// Two rows of N bf16, as pairs: the lane's first from `a`, its second from `b`.
    unsafe fn pairs(a: *const u16, b: *const u16) -> Self::V;

    /// Numbers rounded to bf16 as pairs: the lane's first from `a`, its second from `b`.
    unsafe fn join(a: Self::V, b: Self::V) -> Self::V;

    /// acc + a0 b0 + a1 b1 for pairs of bf16, in any order; what is smaller than 2^-126 may count as 0.
    #[inline(always)]
    unsafe fn dot_pairs(a: Self::V, b: Self::V, acc: Self::V) -> Self::V {
        unsafe { Self::fma(Self::high(a), Self::high(b), Self::fma(Self::low(a), Self::low(b), acc)) }
    }

    /// Zero in every lane.
    #[inline(always)]
    unsafe fn zero() -> Self::V {
        unsafe { Self::splat(0.0) }
    }
}

/// What a product takes at once: 32 bits of either factor, one f32 or two bf16.
pub trait Term {
    /// acc + a b, or acc + a0 b0 + a1 b1.
    ///
    /// # Safety
    /// As [`Lanes`].
    unsafe fn mac<S: Lanes>(a: S::V, b: S::V, acc: S::V) -> S::V;
}

/// One f32 a term.
pub struct Single;

impl Term for Single {
    #[inline(always)]
    unsafe fn mac<S: Lanes>(a: S::V, b: S::V, acc: S::V) -> S::V {
        unsafe { S::fma(a, b, acc) }
    }
}

/// Two bf16 a term.
pub struct Pair;

impl Term for Pair {
    #[inline(always)]
    unsafe fn mac<S: Lanes>(a: S::V, b: S::V, acc: S::V) -> S::V {
        unsafe { S::dot_pairs(a, b, acc) }
    }
}

/// Instruction sets, from the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Set {
    /// What the compiler makes of arrays.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, VL, BW and DQ.
    Avx512,
    /// And AVX-512 BF16.
    Avx512Bf16,
}

impl Set {
    /// [`Lanes::ROWS`] of the set.
    pub fn rows(self) -> usize {
        match self {
            Set::Portable => portable::Portable::ROWS,
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => avx2::Avx2::ROWS,
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 | Set::Avx512Bf16 => avx512::Avx512::<true>::ROWS,
            #[cfg(not(target_arch = "x86_64"))]
            Set::Avx2 | Set::Avx512 | Set::Avx512Bf16 => portable::Portable::ROWS,
        }
    }

    /// [`Lanes::N`] of the set.
    pub fn lanes(self) -> usize {
        match self {
            Set::Portable => portable::Portable::N,
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => avx2::Avx2::N,
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 | Set::Avx512Bf16 => avx512::Avx512::<true>::N,
            #[cfg(not(target_arch = "x86_64"))]
            Set::Avx2 | Set::Avx512 | Set::Avx512Bf16 => portable::Portable::N,
        }
    }

    /// True if products of pairs of bf16 are instructions.
    pub fn multiplies_pairs(self) -> bool {
        self == Set::Avx512Bf16
    }

    /// The best that the processor has; in tests, what [`CHOICE`] names.
    pub fn best() -> Set {
        static BEST: OnceLock<Set> = OnceLock::new();
        *BEST.get_or_init(|| {
            let available = Set::available();
            #[cfg(test)]
            if let Ok(name) = std::env::var(CHOICE) {
                let named = available.iter().find(|set| format!("{set:?}") == name);
                return *named.unwrap_or_else(|| panic!("{CHOICE}={name}: expected one of {available:?}"));
            }
            *available.last().expect("compiler bug: no instruction set")
        })
    }

    /// All that the processor has.
    pub fn available() -> Vec<Set> {
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))]
        let mut sets = vec![Set::Portable];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            sets.push(Set::Avx2);
            let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl");
            if wide && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512dq") {
                sets.push(Set::Avx512);
                if is_x86_feature_detected!("avx512bf16") {
                    sets.push(Set::Avx512Bf16);
                }
            }
        }
        sets
    }
}

/// The environment variable by which a test runs other tests with a lesser set.
#[cfg(test)]
pub const CHOICE: &str = "VJEPA_INSTRUCTIONS";

/// Work that is compiled for every set.
pub trait Kernel {
    /// Result.
    type Out;
    /// The work; to be marked `#[inline(always)]`, as is all that it calls.
    ///
    /// # Safety
    /// The processor has the set's instructions; else as the kernel says.
    unsafe fn run<S: Lanes>(self) -> Self::Out;
}

/// Runs a kernel with the instructions of a set.
///
/// # Safety
/// The set is available; else as the kernel says.
pub unsafe fn dispatch_to<K: Kernel>(set: Set, kernel: K) -> K::Out {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        unsafe fn narrow<K: Kernel>(kernel: K) -> K::Out {
            unsafe { kernel.run::<avx2::Avx2>() }
        }
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
        unsafe fn wide<K: Kernel>(kernel: K) -> K::Out {
            unsafe { kernel.run::<avx512::Avx512<false>>() }
        }
        #[target_feature(enable = "avx512bf16,avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
        unsafe fn pairs<K: Kernel>(kernel: K) -> K::Out {
            unsafe { kernel.run::<avx512::Avx512<true>>() }
        }
        match set {
            Set::Portable => unsafe { kernel.run::<portable::Portable>() },
            Set::Avx2 => unsafe { narrow(kernel) },
            Set::Avx512 => unsafe { wide(kernel) },
            Set::Avx512Bf16 => unsafe { pairs(kernel) },
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = set;
        unsafe { kernel.run::<portable::Portable>() }
    }
}

/// The nearest bf16, as f32; half to even.
pub fn bf16(x: f32) -> f32 {
    if x.is_nan() {
        return f32::from_bits(0x7fc0_0000);
    }
    let bits = x.to_bits();
    f32::from_bits((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff_0000)
}
