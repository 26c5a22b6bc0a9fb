//! The reference lowering: every op by its formula in luminal's primitive operations, nothing fused.
//!
//! It is the oracle for the fused kernels and the gradients, and shares no arithmetic with them or with the
//! interpreter. The primitive graph is built anew for each run with that step's counts as constants: every block (clip
//! or segment) of a value is an array of its own, so all shapes are known; attention is one product a segment and head,
//! with its scores in memory. Indices are one-hot matrices. Everything is computed in f32; f64 values too, except
//! numbers that are constants of the step. A node of bf16 elements rounds its result to them. Steps take seconds at
//! widths of tens: it is for tiny shapes.
//!
//! `arith` has the arithmetic that luminal lacks, `elementwise`, `shape`, `contract`, `idiom` and `update` the ops of
//! the IR by family, `step` the walk over a graph.

mod arith;
mod contract;
mod elementwise;
mod idiom;
mod shape;
mod step;
#[cfg(test)]
mod tests;
mod update;

use super::luminal::primitives::Kept;
use super::{Event, LowerError, Machine, Output, Shared, StepInputs};
use crate::ir::graph::{Segments, SlotId};
use crate::program::Entry;

/// Runs a program's entries on luminal primitives.
pub struct ReferenceMachine {
    program: Shared,
    slots: Vec<Vec<f32>>,
    peak: usize,
}

impl ReferenceMachine {
    /// A machine with all slots zero.
    pub fn new(program: Shared) -> Result<ReferenceMachine, LowerError> {
        let slots: Vec<Vec<f32>> = program.tables.slots.iter().map(|s| vec![0.0; s.shape.iter().product()]).collect();
        let peak = slot_bytes(&slots);
        Ok(ReferenceMachine { program, slots, peak })
    }
}

impl Machine for ReferenceMachine {
    fn slot(&self, id: SlotId) -> &[f32] {
        &self.slots[id.0 as usize]
    }

    fn slot_mut(&mut self, id: SlotId) -> &mut [f32] {
        &mut self.slots[id.0 as usize]
    }

    fn run(&mut self, entry: Entry, inputs: &StepInputs) -> Result<Vec<Output>, LowerError> {
        let graph = self.program.entry(entry);
        let built = step::build(&self.program.tables, graph, inputs, &self.slots)?;
        self.peak = self.peak.max(slot_bytes(&self.slots) + built.primitives.elements() * size_of::<f32>());
        let results = built.primitives.execute()?;
        let collect = |kept: &[Kept]| -> Result<Vec<f32>, LowerError> {
            let blocks: Result<Vec<_>, _> = kept.iter().map(|k| results.take(*k)).collect();
            Ok(blocks?.concat())
        };
        let mut outputs = Vec::new();
        for ((name, value), kept) in graph.outputs.iter().zip(&built.outputs) {
            outputs.push(Output { name: name.clone(), ty: graph.ty(*value).clone(), data: collect(kept)? });
        }
        for (slot, kept) in &built.slots {
            self.slots[slot.0 as usize] = results.take(*kept)?;
        }
        Ok(outputs)
    }

    /// Graphs are built for each step.
    fn prepare(&mut self, _: &Segments) -> Result<Option<usize>, LowerError> {
        Ok(None)
    }

    /// An upper bound: every array of the largest graph so far, though luminal frees arrays after their last use.
    fn peak_bytes(&self) -> usize {
        self.peak
    }

    /// Luminal runs the graph as a whole; nothing is measured inside it.
    fn profile(&mut self) -> Vec<(String, f64)> {
        Vec::new()
    }

    fn record(&mut self) -> Result<(), LowerError> {
        Err(LowerError::User("a trace needs `--backend cpu`: `reference` runs an entry as a whole".into()))
    }

    fn recorded(&mut self) -> Vec<Event> {
        Vec::new()
    }
}

fn slot_bytes(slots: &[Vec<f32>]) -> usize {
    slots.iter().map(|s| s.len() * size_of::<f32>()).sum()
}
