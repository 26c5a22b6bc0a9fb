//! Checkpoints: what a run can be continued from, and weights of other files.
//!
//! A checkpoint is a directory named by its step. It is written beside its place, synced, marked DONE and renamed, so
//! that a directory without its mark, or under another name, does not exist as a checkpoint.

pub mod format;
mod load;
mod save;
mod tensors;
#[cfg(test)]
mod tests;
mod weights;

pub use format::State;
pub use load::{load, newest, read_state};
pub use save::{save, sweep_up};
pub use tensors::{Stored, Values, read_tensors};
pub use weights::{WeightsFrom, load_model, load_weights};
