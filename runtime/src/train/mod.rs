//! Training: the loop, the numbers of a step, and what stops a run that has gone wrong.

pub mod command;
pub mod directory;
pub mod guard;
pub mod run_loop;
pub mod schedule;
pub mod source;
#[cfg(test)]
mod tests;
