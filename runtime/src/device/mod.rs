//! A program on a device: slots, entries, and a training step made of them.

#[cfg(test)]
pub mod fake;
mod initial;
mod session;
mod slice;

use std::sync::Arc;

use vjepac::lower::{Backend, Machine};
use vjepac::program::Program;

use crate::error::Result;

pub use session::{Gradients, Session, StepData, StepReport, TokenShares};
pub use slice::input_size;

/// Builds the machine that runs a program.
pub fn machine(program: Arc<Program>, backend: Backend, threads: usize) -> Result<Box<dyn Machine>> {
    let _ = (&program, threads);
    match backend {
        Backend::Cpu => Err(crate::error::Error::failed("compiler bug: the cpu lowering is not linked in")),
        Backend::Reference => Err(crate::error::Error::failed("compiler bug: the reference lowering is not linked in")),
    }
}
