//! The one module that knows luminal: nothing else in the crate imports it.
//!
//! [`primitives`] builds a graph of luminal's own primitive operations, for the reference lowering.

pub mod primitives;
