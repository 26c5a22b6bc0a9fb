//! `Program` to luminal graphs that run.
//!
//! Two lowerings share one luminal graph type: `cpu`, fused operators of our own over a planned arena, and `reference`,
//! luminal primitives only, rebuilt for each step. [`Machine`] is what the runtime sees of either.

pub mod cpu;
pub mod luminal;
pub mod profile;
pub mod reference;

use std::sync::Arc;

use crate::ir::graph::{Segments, SlotId, Type};
use crate::program::{Entry, Program};

pub use profile::Event;

/// Which lowering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Fused kernels.
    Cpu,
    /// Luminal primitives, for tiny shapes.
    Reference,
}

/// What an entry is given.
#[derive(Clone, Copy, Debug)]
pub struct StepInputs<'a> {
    /// Clips and index sets.
    pub segments: &'a Segments,
    /// For each input of the tables: all clips one after another. Labels are whole numbers in f32.
    pub inputs: &'a [Vec<f32>],
    /// For each scalar of the tables.
    pub scalars: &'a [f64],
}

/// A named result: all blocks one after another.
#[derive(Clone, Debug)]
pub struct Output {
    /// As in `Graph::outputs`.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// Elements.
    pub data: Vec<f32>,
}

/// Why a program cannot run. `User` is the user's to mend (memory, sizes); `Bug` is ours.
#[derive(Clone, Debug, PartialEq)]
pub enum LowerError {
    /// Something the user can change.
    User(String),
    /// A compiler bug, with the node.
    Bug(String),
}

/// A program, its slots, and something that runs its entries.
pub trait Machine {
    /// Content of a slot.
    fn slot(&self, id: SlotId) -> &[f32];
    /// Content of a slot, to be changed (loading, clearing gradients).
    fn slot_mut(&mut self, id: SlotId) -> &mut [f32];
    /// Runs an entry; effects land in the slots.
    fn run(&mut self, entry: Entry, step: &StepInputs) -> Result<Vec<Output>, LowerError>;
    /// Plans for a step with these counts, so that a limit that it cannot keep is told before anything runs. Bytes that the
    /// machine will hold; nothing where it cannot tell.
    fn prepare(&mut self, segments: &Segments) -> Result<Option<usize>, LowerError>;
    /// Largest number of bytes held so far, slots included.
    fn peak_bytes(&self) -> usize;
    /// Seconds spent by op name since the last call, most first; nothing where the machine cannot tell.
    fn profile(&mut self) -> Vec<(String, f64)>;
    /// Records every run of an op from now on; an error where the machine cannot.
    fn record(&mut self) -> Result<(), LowerError>;
    /// Stops recording and hands out what was recorded, in order.
    fn recorded(&mut self) -> Vec<Event>;
}

/// Program shared by machines.
pub type Shared = Arc<Program>;
