//! The tensor IR.

pub mod build;
pub mod eval;
pub mod extent;
pub mod graph;
pub mod infer;
pub mod kind;
pub mod op;
pub mod parse_text;
pub mod philox;
pub mod print;
pub mod verify;
