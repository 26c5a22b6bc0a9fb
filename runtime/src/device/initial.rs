//! Contents of a fresh run's slots: the program's `init` entry, run by the interpreter.

use vjepac::ir::eval::{self, Env};
use vjepac::ir::graph::SlotId;
use vjepac::program::{Entry, Program};

use crate::error::{Error, Result};

/// What the init entry stores: buffers and initial weights.
pub fn contents(program: &Program, seed: u64) -> Result<Vec<(SlotId, Vec<f32>)>> {
    let mut env = Env { seed, ..Env::default() };
    eval::eval(&program.tables, program.entry(Entry::Init), &mut env)
        .map_err(|m| Error::failed(format!("compiler bug: {m}")))?;
    let stored = (0..).map(SlotId).zip(env.slots).filter(|(_, data)| !data.is_empty());
    Ok(stored.map(|(id, data)| (id, data.into_iter().map(|v| v as f32).collect())).collect())
}
