//! The hand-over: everything a run needs, and the `.vjc` file it travels in.
//!
//! A program depends on no device, batch or memory size. Its entries are graphs over shared [`Tables`]:
//! `init` stores buffers and initial weights; `draw` computes every mask's yes or no (f64 and bool, run by the
//! interpreter); `grads` runs forward and backward and adds into gradient slots; `update` clips, steps the optimiser and
//! moves the averages; `metrics` and `backbone` only compute.

use serde::{Deserialize, Serialize};

use crate::ir::graph::{Graph, Tables};
use crate::model::Schedule;

/// Names of the entries, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "described at the top of the file")]
pub enum Entry {
    Init,
    Draw,
    Grads,
    Update,
    Metrics,
    Backbone,
}

impl Entry {
    /// All of them.
    pub const ALL: [Entry; 6] =
        [Entry::Init, Entry::Draw, Entry::Grads, Entry::Update, Entry::Metrics, Entry::Backbone];

    /// As written in `.vjc` files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Entry::Init => "init",
            Entry::Draw => "draw",
            Entry::Grads => "grads",
            Entry::Update => "update",
            Entry::Metrics => "metrics",
            Entry::Backbone => "backbone",
        }
    }
}

/// Settings of a run (`train { ... }`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSettings {
    /// Names of data with their shares.
    pub data: Vec<(String, Option<f64>)>,
    /// Clips of one optimiser step.
    pub batch: usize,
    /// Clips whose masks are cut to one length; 0 if no mask is drawn.
    pub group: usize,
    /// Optimiser steps.
    pub steps: usize,
    /// Seed.
    pub seed: u64,
    /// `f32` or `bf16`.
    pub precision: String,
}

/// Requirements of a mask draw: output names of the `draw` entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaskOutputs {
    /// Bool, outer Clips (or One), dims (extra..., factors...).
    pub context: String,
    /// As context.
    pub target: String,
    /// Bool, no dims: all must hold, else the clip is drawn again.
    pub require: Vec<String>,
}

/// A compiled model.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Model name.
    pub name: String,
    /// Stored tensors, inputs, scalars, masks, counts.
    pub tables: Tables,
    /// Schedules that scalars refer to.
    pub schedules: Vec<Schedule>,
    /// For each mask of the tables, where the draw entry puts it.
    pub masks: Vec<MaskOutputs>,
    /// Entry graphs, in the order of [`Entry::ALL`]; an absent backbone is an empty graph.
    pub entries: [Graph; 6],
    /// Run settings.
    pub run: Option<RunSettings>,
    /// The model as one file: imports, variants and overrides applied.
    pub resolved: String,
}

impl Program {
    /// The graph of an entry.
    pub fn entry(&self, entry: Entry) -> &Graph {
        &self.entries[entry as usize]
    }
}
