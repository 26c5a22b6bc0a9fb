//! Threads and vector instructions.
//!
//! Work is cut into tasks whose number and size follow from the data alone, never from the number of threads, and every
//! task writes its own elements: so the bits are the same for any number of threads.

use std::cell::RefCell;
use std::sync::OnceLock;

use rayon::prelude::*;

/// Elements of a task of elementwise work; a choice by feel, small enough for 16 threads, large enough to pay a hand-over.
pub const CHUNK: usize = 16 * 1024;

/// Runs tasks `0..tasks` on the current pool.
pub fn each(tasks: usize, task: impl Fn(usize) + Sync + Send) {
    if tasks <= 1 || rayon::current_num_threads() == 1 {
        (0..tasks).for_each(task);
    } else {
        share(tasks, &task);
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

/// A place that several tasks write, each its own part.
#[derive(Clone, Copy)]
pub struct Shared(*mut f32, usize);

// SAFETY: the pointer is only used through `part`, whose callers give every task a part of its own.
unsafe impl Send for Shared {}
unsafe impl Sync for Shared {}

impl Shared {
    /// All of a slice.
    pub fn new(slice: &mut [f32]) -> Shared {
        Shared(slice.as_mut_ptr(), slice.len())
    }

    /// So many elements from a place on, which may hold an input too.
    pub fn at(start: *mut f32, len: usize) -> Shared {
        Shared(start, len)
    }

    /// A part of it.
    ///
    /// # Safety
    /// No two parts in use at a time overlap, and the slice outlives them.
    #[allow(clippy::mut_from_ref, reason = "parts are disjoint")]
    pub unsafe fn part(&self, start: usize, len: usize) -> &mut [f32] {
        assert!(start + len <= self.1, "compiler bug: part {start} + {len} of {}", self.1);
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }

    /// The first element.
    pub fn pointer(&self) -> *mut f32 {
        self.0
    }
}

/// An input whose memory the result may take over (see `plan::in_place`), so that no slice of all of it may exist.
#[derive(Clone, Copy)]
pub struct Source(*const f32, usize);

// SAFETY: the pointer is only used through `read`.
unsafe impl Send for Source {}
unsafe impl Sync for Source {}

impl Source {
    /// So many elements from a place on.
    pub fn at(start: *const f32, len: usize) -> Source {
        Source(start, len)
    }

    /// Number of elements.
    pub fn len(self) -> usize {
        self.1
    }

    /// Hands elements `from..to` to `body`, which may write the same elements of `result`: a copy of them where the result
    /// lies over the input.
    ///
    /// # Safety
    /// The input stays as it is until `body` returns, except for what `body` writes to these elements of `result`.
    pub unsafe fn read<R>(self, result: Shared, from: usize, to: usize, body: impl FnOnce(&[f32]) -> R) -> R {
        assert!(from <= to && to <= self.1, "compiler bug: elements {from}..{to} of {}", self.1);
        let part = || unsafe { std::slice::from_raw_parts(self.0.add(from), to - from) };
        if std::ptr::eq(self.0, result.pointer()) {
            scratch(to - from, |copy| {
                copy.copy_from_slice(part());
                body(copy)
            })
        } else {
            body(part())
        }
    }

    /// Elements of `result` that hold those of the input.
    ///
    /// # Safety
    /// As [`Shared::part`].
    #[allow(clippy::mut_from_ref, reason = "as `Shared::part`")]
    pub unsafe fn copied(self, result: &Shared, start: usize, len: usize) -> &mut [f32] {
        if !std::ptr::eq(self.0, result.pointer()) {
            assert!(start + len <= self.1, "compiler bug: {len} elements from {start} of {}", self.1);
            unsafe { result.part(start, len).copy_from_slice(std::slice::from_raw_parts(self.0.add(start), len)) };
        }
        unsafe { result.part(start, len) }
    }
}

thread_local! {
    static SPARE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(vec![]) };
}

/// Lends a piece of memory of this thread, its content undefined (but initialised).
pub fn scratch<R>(len: usize, body: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut memory = SPARE.with(|s| s.borrow_mut().pop()).unwrap_or_default();
    if memory.len() < len {
        memory.resize(len, 0.0);
    }
    let result = body(&mut memory[..len]);
    SPARE.with(|s| s.borrow_mut().push(memory));
    result
}

/// Cuts a piece of memory into rooms of the given sizes.
pub fn rooms<const N: usize>(mut memory: &mut [f32], sizes: [usize; N]) -> [&mut [f32]; N] {
    sizes.map(|size| {
        let (room, rest) = std::mem::take(&mut memory).split_at_mut(size);
        memory = rest;
        room
    })
}

/// Which vector instructions the processor has: 2 for AVX-512, 1 for AVX2 with FMA, else 0.
pub fn level() -> u8 {
    static LEVEL: OnceLock<u8> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2 && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
                return 2;
            }
            if avx2 {
                return 1;
            }
        }
        0
    })
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
