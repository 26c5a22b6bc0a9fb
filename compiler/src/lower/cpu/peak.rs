//! What a step holds, foretold: the same plans and offsets as a machine's, without its memory.

use std::rc::Rc;

use super::context::Context;
use super::memory::Memory;
use super::{ENTRIES, slot_sizes};
use crate::ir::graph::Segments;
use crate::lower::{LowerError, Shared};
use crate::plan::Plan;
use crate::program::Entry;

/// Bytes that a machine holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peak {
    /// Weights, averages, gradients, optimiser state, buffers.
    pub slots: usize,
    /// Values of each entry, and what its kernels take on the side. Entries run one at a time in one arena.
    pub values: Vec<(Entry, usize)>,
}

impl Peak {
    /// All at once.
    pub fn total(&self) -> usize {
        self.slots + self.values.iter().map(|v| v.1).max().unwrap_or(0)
    }
}

/// What a machine of so many threads holds in a step with these counts; `Machine::peak_bytes` says it afterwards.
pub fn peak(program: &Shared, segments: &Segments, threads: usize) -> Result<Peak, LowerError> {
    let memory = Rc::new(Memory::foretold(&slot_sizes(program)));
    let values = ENTRIES.map(|entry| {
        let plan = Plan::new(program.entry(entry), &program.tables, segments.clips);
        let cx = Context::new(program.clone(), plan, memory.clone(), threads);
        Ok((entry, 4 * cx.lay_out(segments)?))
    });
    Ok(Peak { slots: memory.slot_bytes(), values: values.into_iter().collect::<Result<_, LowerError>>()? })
}
