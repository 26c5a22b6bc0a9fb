//! Eight lanes as an array, for any processor; two NEON registers where there is NEON.

use super::{Lanes, bf16};

/// An array that the compiler vectorises.
#[derive(Clone, Copy)]
pub struct Portable;

/// Eight numbers.
type V = [f32; 8];

#[inline(always)]
fn each(f: impl Fn(usize) -> f32) -> V {
    std::array::from_fn(f)
}

impl Lanes for Portable {
    type V = V;
    const N: usize = 8;
    const ROWS: usize = if cfg!(target_arch = "aarch64") { 6 } else { 3 };

    #[inline(always)]
    unsafe fn splat(x: f32) -> V {
        [x; 8]
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> V {
        unsafe { p.cast::<V>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> V {
        each(|i| if i < n { unsafe { *p.add(i) } } else { 0.0 })
    }

    #[inline(always)]
    unsafe fn store(p: *mut f32, v: V) {
        unsafe { p.cast::<V>().write_unaligned(v) }
    }

    #[inline(always)]
    unsafe fn store_part(p: *mut f32, v: V, n: usize) {
        (0..n).for_each(|i| unsafe { *p.add(i) = v[i] });
    }

    /// Rounded twice where a fused multiply-add would be a call.
    #[inline(always)]
    unsafe fn fma(a: V, b: V, c: V) -> V {
        if cfg!(target_arch = "aarch64") { each(|i| a[i].mul_add(b[i], c[i])) } else { each(|i| a[i] * b[i] + c[i]) }
    }

    #[inline(always)]
    unsafe fn add(a: V, b: V) -> V {
        each(|i| a[i] + b[i])
    }

    #[inline(always)]
    unsafe fn sub(a: V, b: V) -> V {
        each(|i| a[i] - b[i])
    }

    #[inline(always)]
    unsafe fn mul(a: V, b: V) -> V {
        each(|i| a[i] * b[i])
    }

    #[inline(always)]
    unsafe fn max(a: V, b: V) -> V {
        each(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    unsafe fn scale(x: V, n: V) -> V {
        each(|i| x[i] * f32::from_bits(((n[i] as i32 + 127) << 23) as u32))
    }

    /// Adding and taking away 1.5 * 2^23 leaves no fraction; good for |x| < 2^22.
    #[inline(always)]
    unsafe fn round(x: V) -> V {
        const SHIFT: f32 = 12_582_912.0;
        each(|i| (x[i] + SHIFT) - SHIFT)
    }

    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> V {
        each(|i| f32::from_bits(u32::from(unsafe { *p.add(i) }) << 16))
    }

    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: V) {
        (0..8).for_each(|i| unsafe { *p.add(i) = (bf16(v[i]).to_bits() >> 16) as u16 });
    }

    #[inline(always)]
    unsafe fn join(a: V, b: V) -> V {
        each(|i| f32::from_bits(bf16(a[i]).to_bits() >> 16 | bf16(b[i]).to_bits()))
    }

    #[inline(always)]
    unsafe fn low(v: V) -> V {
        each(|i| f32::from_bits(v[i].to_bits() << 16))
    }

    #[inline(always)]
    unsafe fn high(v: V) -> V {
        each(|i| f32::from_bits(v[i].to_bits() & 0xffff_0000))
    }

    #[inline(always)]
    unsafe fn pairs(a: *const u16, b: *const u16) -> V {
        each(|i| f32::from_bits(unsafe { u32::from(*a.add(i)) | u32::from(*b.add(i)) << 16 }))
    }
}
