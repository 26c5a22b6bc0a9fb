//! Contents of a fresh run's slots: the program's `init` entry, run by the interpreter.

use vjepac::ir::graph::SlotId;
use vjepac::program::Program;

use crate::error::{Error, Result};

/// What the init entry stores: buffers and initial weights.
pub fn contents(program: &Program, seed: u64) -> Result<Vec<(SlotId, Vec<f32>)>> {
    let _ = (program, seed);
    Err(Error::failed("compiler bug: the interpreter is not linked in"))
}
