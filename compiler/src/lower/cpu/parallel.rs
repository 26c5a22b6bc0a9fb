//! Threads and vector instructions.
//!
//! Work is cut into tasks whose number and size follow from the data alone, never from the number of threads, and every
//! task writes its own elements: so the bits are the same for any number of threads.

use rayon::prelude::*;

use super::lanes::Set;
use super::scratch::Handed;
pub use super::scratch::scratch;

/// Elements of a task of elementwise work; a choice by feel, small enough for 16 threads, large enough to pay a hand-over.
pub const CHUNK: usize = 16 * 1024;

/// Runs tasks `0..tasks` on the current pool.
pub fn each(tasks: usize, task: impl Fn(usize) + Sync + Send) {
    let handed = Handed::here();
    if tasks <= 1 || rayon::current_num_threads() == 1 {
        (0..tasks).for_each(|i| handed.task(|| task(i)));
    } else {
        share(tasks, &|i| handed.task(|| task(i)));
    }
}

/// Not generic, so that the pool's machinery is compiled once.
fn share(tasks: usize, task: &(dyn Fn(usize) + Sync + Send)) {
    (0..tasks).into_par_iter().with_max_len(1).for_each(task);
}

/// Runs `task(start, end)` over `0..n` in pieces of `size`.
pub fn pieces(n: usize, size: usize, task: impl Fn(usize, usize) + Sync + Send) {
    let size = size.max(1);
    each(n.div_ceil(size), |i| task(i * size, ((i + 1) * size).min(n)));
}

/// Cuts a piece of memory into rooms of the given sizes.
pub fn rooms<const N: usize>(mut memory: &mut [f32], sizes: [usize; N]) -> [&mut [f32]; N] {
    sizes.map(|size| {
        let (room, rest) = std::mem::take(&mut memory).split_at_mut(size);
        memory = rest;
        room
    })
}

/// Which vector instructions are used: 2 for AVX-512, 1 for AVX2 with FMA, else 0.
pub fn level() -> u8 {
    match Set::best() {
        Set::Portable => 0,
        Set::Avx2 => 1,
        Set::Avx512 | Set::Avx512Bf16 => 2,
    }
}

/// Defines a function compiled once for each instruction set and chosen at run time. `FMA` is true where fused
/// multiply-add is one instruction; use it through [`fma`].
macro_rules! simd {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? { <$fma:ident> $($body:tt)* }) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body<const $fma: bool>($($arg: $ty),*) $(-> $ret)? { $($body)* }
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn wide($($arg: $ty),*) $(-> $ret)? { body::<true>($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn narrow($($arg: $ty),*) $(-> $ret)? { body::<true>($($arg),*) }
                // SAFETY: `level` has seen that the processor has these instructions.
                match $crate::lower::cpu::parallel::level() {
                    2 => return unsafe { wide($($arg),*) },
                    1 => return unsafe { narrow($($arg),*) },
                    _ => {}
                }
            }
            body::<false>($($arg),*)
        }
    };
}
pub(crate) use simd;

/// a b + c.
#[inline(always)]
pub fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}
