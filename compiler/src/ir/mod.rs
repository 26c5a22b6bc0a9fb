//! The tensor IR.

pub mod graph;
pub mod op;
