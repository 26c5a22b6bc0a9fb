//! What tasks read and write: an input, and a result of which every task has a part of its own.
//!
//! Elements are f32 or bf16 in memory and f32 in the hands of a kernel: bf16 is widened a part at a time, and rounded when a
//! part is done.

use super::lanes::{Set, dispatch_to};
use super::matmul::pack::{Narrow, Widen};
use super::matmul::{Factor, Matrix, Out};
use super::parallel::scratch;
use crate::plan::Stored;

/// A place that several tasks write, each its own part.
#[derive(Clone, Copy)]
pub struct Shared {
    start: *mut f32,
    len: usize,
    stored: Stored,
}

// SAFETY: the pointer is only used through `part` and `write`, whose callers give every task a part of its own.
unsafe impl Send for Shared {}
unsafe impl Sync for Shared {}

impl Shared {
    /// All of a slice.
    pub fn new(slice: &mut [f32]) -> Shared {
        Shared::at(slice.as_mut_ptr(), slice.len(), Stored::F32)
    }

    /// So many elements from a place on, which may hold an input too.
    pub fn at(start: *mut f32, len: usize, stored: Stored) -> Shared {
        Shared { start, len, stored }
    }

    /// A part of a place in f32.
    ///
    /// # Safety
    /// No two parts in use at a time overlap, and the slice outlives them.
    #[allow(clippy::mut_from_ref, reason = "parts are disjoint")]
    pub unsafe fn part(&self, start: usize, len: usize) -> &mut [f32] {
        assert!(start + len <= self.len, "compiler bug: part {start} + {len} of {}", self.len);
        unsafe { std::slice::from_raw_parts_mut(self.pointer().add(start), len) }
    }

    /// Has a part written by `body`, which finds it undefined.
    ///
    /// # Safety
    /// As [`Shared::part`].
    pub unsafe fn write(&self, start: usize, len: usize, body: impl FnOnce(&mut [f32])) {
        match self.stored {
            Stored::F32 => body(unsafe { self.part(start, len) }),
            Stored::Bf16 => scratch(len, |wide| {
                body(wide);
                assert!(start + len <= self.len, "compiler bug: part {start} + {len} of {}", self.len);
                // SAFETY: the caller's; the set is available.
                unsafe {
                    let to = std::slice::from_raw_parts_mut(self.narrow().add(start), len);
                    dispatch_to(Set::best(), Narrow { from: wide, to });
                }
            }),
        }
    }

    /// Makes a part zero.
    ///
    /// # Safety
    /// As [`Shared::part`].
    pub unsafe fn clear(&self, start: usize, len: usize) {
        assert!(start + len <= self.len, "compiler bug: part {start} + {len} of {}", self.len);
        match self.stored {
            Stored::F32 => unsafe { self.pointer().add(start).write_bytes(0, len) },
            Stored::Bf16 => unsafe { self.narrow().add(start).write_bytes(0, len) },
        }
    }

    /// As the result of a product: from element `first` on, `row` elements from row to row.
    pub fn out(&self, first: usize, row: usize) -> Out {
        match self.stored {
            Stored::F32 => Out::f32(self.pointer().wrapping_add(first), row),
            Stored::Bf16 => Out::bf16(self.narrow().wrapping_add(first), row),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// How the elements lie.
    pub fn stored(&self) -> Stored {
        self.stored
    }

    /// The first element, whatever its type.
    pub fn start(&self) -> *mut f32 {
        self.start
    }

    /// The first element of a place in f32.
    pub fn pointer(&self) -> *mut f32 {
        assert!(self.stored == Stored::F32, "compiler bug: a result in bf16, written as f32");
        self.start
    }

    /// The first element of a place in bf16.
    pub fn narrow(&self) -> *mut u16 {
        assert!(self.stored == Stored::Bf16, "compiler bug: a result in f32, written as bf16");
        self.start.cast()
    }
}

/// An input whose memory the result may take over (see `plan::in_place`), so that no slice of all of it may exist.
#[derive(Clone, Copy)]
pub struct Source {
    start: *const f32,
    len: usize,
    stored: Stored,
}

// SAFETY: the pointer is only used through `read`.
unsafe impl Send for Source {}
unsafe impl Sync for Source {}

impl Source {
    /// So many elements from a place on.
    pub fn at(start: *const f32, len: usize, stored: Stored) -> Source {
        Source { start, len, stored }
    }

    /// Number of elements.
    pub fn len(self) -> usize {
        self.len
    }

    /// As a factor of a product: from its first element on, with distances of rows and columns.
    pub fn factor(self, row: usize, col: usize) -> Factor {
        match self.stored {
            Stored::F32 => Factor::F32(Matrix { data: self.start, row, col }),
            Stored::Bf16 => Factor::Bf16(Matrix { data: self.start.cast(), row, col }),
        }
    }

    /// Hands elements `from..to` to `body`, which may write the same elements of `result`: a copy of them where the result
    /// lies over the input.
    ///
    /// # Safety
    /// The input stays as it is until `body` returns, except for what `body` writes to these elements of `result`.
    pub unsafe fn read<R>(self, result: Shared, from: usize, to: usize, body: impl FnOnce(&[f32]) -> R) -> R {
        assert!(from <= to && to <= self.len, "compiler bug: elements {from}..{to} of {}", self.len);
        match self.stored {
            Stored::F32 => {
                let part = || unsafe { std::slice::from_raw_parts(self.start.add(from), to - from) };
                if std::ptr::eq(self.start, result.start) {
                    scratch(to - from, |copy| {
                        copy.copy_from_slice(part());
                        body(copy)
                    })
                } else {
                    body(part())
                }
            }
            Stored::Bf16 => scratch(to - from, |wide| {
                // SAFETY: inside the input; the set is available.
                unsafe {
                    let from = std::slice::from_raw_parts(self.start.cast::<u16>().add(from), to - from);
                    dispatch_to(Set::best(), Widen { from, to: wide });
                }
                body(wide)
            }),
        }
    }
}
