//! Strided views of values.

use std::sync::Arc;

use super::matmul::{Factor, Matrix};
use super::place::Shared;
use crate::plan::Stored;
use crate::plan::shape::Shape;

/// A strided view of a value: for every block a place and a stride a dim.
#[derive(Clone)]
pub struct View {
    /// Extents.
    pub shape: Arc<Shape>,
    /// True if all blocks lie one after another, row-major.
    pub dense: bool,
    /// How the elements lie.
    pub stored: Stored,
    data: *const f32,
    bases: Vec<usize>,
    strides: Vec<usize>,
}

// SAFETY: views only read, and the plan keeps what they read unchanged while they live.
unsafe impl Send for View {}
unsafe impl Sync for View {}

/// The first element of a block, as it is stored.
#[derive(Clone, Copy)]
pub enum Elements {
    /// In f32.
    F32(*const f32),
    /// In bf16.
    Bf16(*const u16),
}

impl Elements {
    /// Where the kernel can only do with f32.
    pub fn f32(self) -> *const f32 {
        match self {
            Elements::F32(data) => data,
            Elements::Bf16(_) => panic!("compiler bug: elements in bf16, read as f32"),
        }
    }
}

impl View {
    /// The first element of a block.
    pub fn elements(&self, block: usize) -> Elements {
        match self.stored {
            Stored::F32 => Elements::F32(self.at(block)),
            Stored::Bf16 => Elements::Bf16(self.narrow().wrapping_add(self.bases[block])),
        }
    }

    /// A view of storage that starts at `data`: its blocks `bases` from there, with strides.
    pub fn new(
        data: *const f32,
        stored: Stored,
        shape: Arc<Shape>,
        dense: bool,
        places: (Vec<usize>, Vec<usize>),
    ) -> View {
        View { shape, dense, stored, data, bases: places.0, strides: places.1 }
    }

    /// The first element of a block, in f32.
    pub fn at(&self, block: usize) -> *const f32 {
        self.data().wrapping_add(self.bases[block])
    }

    /// A block from element `first` on, as a factor of a product.
    pub fn factor(&self, block: usize, first: usize, row: usize, col: usize) -> Factor {
        let at = self.bases[block] + first;
        match self.stored {
            Stored::F32 => Factor::F32(Matrix { data: self.data.wrapping_add(at), row, col }),
            Stored::Bf16 => Factor::Bf16(Matrix { data: self.data.cast::<u16>().wrapping_add(at), row, col }),
        }
    }

    /// Distance of a block from the storage's start.
    pub fn base(&self, block: usize) -> usize {
        self.bases[block]
    }

    /// The storage's start, in f32.
    pub fn data(&self) -> *const f32 {
        assert!(self.stored == Stored::F32, "compiler bug: a view in bf16, read as f32");
        self.data
    }

    /// The storage's start, in bf16.
    pub fn narrow(&self) -> *const u16 {
        assert!(self.stored == Stored::Bf16, "compiler bug: a view in f32, read as bf16");
        self.data.cast()
    }

    /// Strides of a block.
    pub fn strides(&self, block: usize) -> &[usize] {
        &self.strides[block * self.shape.rank..(block + 1) * self.shape.rank]
    }

    /// A view of a region of a result: its blocks `bases` from its start, with row strides of their own.
    pub fn region(place: Shared, shape: Arc<Shape>, bases: Vec<usize>, strides: Vec<usize>) -> View {
        View::new(place.start(), place.stored(), shape, false, (bases, strides))
    }
}

/// Row-major strides.
pub fn dense_strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for d in (1..dims.len()).rev() {
        strides[d - 1] = strides[d] * dims[d];
    }
    strides
}
