//! Text to `Ast`.

pub mod ast;
