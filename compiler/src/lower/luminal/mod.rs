//! The one module that knows luminal: nothing else in the crate imports it.
//!
//! [`chain`] runs kernels of our own in planned order, for the lowering to the processor; [`primitives`] builds a graph
//! of luminal's own primitive operations, for the reference lowering.

mod array;
pub mod chain;
pub mod primitives;
