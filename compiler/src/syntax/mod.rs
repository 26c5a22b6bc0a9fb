//! Text to `Ast`.
//!
//! `parse` runs three steps: tokens and brackets are looked at first (`tokens`, `brackets`), then the grammar in
//! `grammar/vjepa.pest` decides (`parse`), and what it refuses is explained from the tokens around the place
//! (`explain_error`, `rule_names`). Nothing outside this folder sees pest.

pub mod ast;
mod brackets;
mod climb;
mod explain_error;
mod habits;
pub mod parse;
pub mod print;
mod recover;
mod rule_names;
mod tokens;

pub use parse::{parse, parse_expr, parse_setting};

#[cfg(test)]
mod tests;
