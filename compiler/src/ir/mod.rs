//! The tensor IR.

pub mod op;
pub mod graph;
