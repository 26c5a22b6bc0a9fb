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

use crate::error::{Error, Result};

pub use session::{Gradients, Session, StepData, StepReport, TokenShares};
pub use slice::input_size;

/// How a program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How {
    /// Which lowering.
    pub backend: Backend,
    /// Threads.
    pub threads: usize,
    /// Bytes for weights, optimiser state and the values of a step; `None` for what it takes.
    pub memory: Option<usize>,
}

/// Builds the machine that runs a program.
pub fn machine(program: Arc<Program>, how: How) -> Result<Box<dyn Machine>> {
    Ok(match (how.backend, how.memory) {
        (Backend::Cpu, memory) => Box::new(CpuMachine::new(program, how.threads, memory)?),
        (Backend::Reference, None) => Box::new(ReferenceMachine::new(program)?),
        (Backend::Reference, Some(_)) => {
            return Err(Error::usage("--memory is for fused kernels; leave it out, or use `--backend cpu`"));
        }
    })
}
