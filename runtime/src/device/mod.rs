//! A program on a device: slots, entries, and a training step made of them.

#[cfg(test)]
pub mod fake;
mod initial;
mod session;
mod slice;

use std::sync::Arc;

use vjepac::lower::cpu::CpuMachine;
use vjepac::lower::reference::ReferenceMachine;
use vjepac::lower::{Backend, Machine};
use vjepac::program::Program;

use crate::error::Result;

pub use session::{Gradients, Session, StepData, StepReport, TokenShares};
pub use slice::input_size;

/// Builds the machine that runs a program.
pub fn machine(program: Arc<Program>, backend: Backend, threads: usize) -> Result<Box<dyn Machine>> {
    Ok(match backend {
        Backend::Cpu => Box::new(CpuMachine::new(program, threads)?),
        Backend::Reference => Box::new(ReferenceMachine::new(program)?),
    })
}
