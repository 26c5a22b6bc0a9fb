//! What a step holds, foretold: the same plans and offsets as a machine's, without its memory.

use std::rc::Rc;

use super::context::Context;
use super::limit::Limit;
use super::memory::Memory;
use super::{ENTRIES, batch, slot_sizes};
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
    peak_within(program, segments, threads, None)
}

/// [`peak`] of a machine with a limit in bytes; an error if the step cannot keep it.
pub fn peak_within(
    program: &Shared,
    segments: &Segments,
    threads: usize,
    limit: Option<usize>,
) -> Result<Peak, LowerError> {
    let mut limit = limit.map(|bytes| Limit::new(program, bytes)).transpose()?;
    let memory = Rc::new(Memory::foretold(&slot_sizes(program)));
    let values = ENTRIES.map(|entry| {
        let plan = Plan::new(program.entry(entry), &program.tables, batch(program));
        let mut cx = Context::new(program.clone(), plan, memory.clone(), threads);
        if let Some(limit) = &mut limit {
            cx = limit.keep(&cx, entry, segments, threads)?.unwrap_or(cx);
        }
        Ok((entry, 4 * cx.lay_out(segments)?))
    });
    Ok(Peak { slots: memory.slot_bytes(), values: values.into_iter().collect::<Result<_, LowerError>>()? })
}
