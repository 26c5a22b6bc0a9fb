//! The layout of a checkpoint: file names, which slots go where, and the state beside them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vjepac::ir::graph::SlotKind;

/// Weights, averages and buffers, under the keys of `vjepac keys`.
pub const MODEL: &str = "model.safetensors";
/// Optimiser state.
pub const OPTIMIZER: &str = "optimizer.safetensors";
/// [`State`] as JSON.
pub const STATE: &str = "state.json";
/// The mark of a complete checkpoint.
pub const DONE: &str = "DONE";
/// Version of the layout.
pub const VERSION: u32 = 1;

/// Where a run stands; everything else follows from the step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Layout version.
    pub version: u32,
    /// Steps done.
    pub step: u64,
    /// Seed of the run.
    pub seed: u64,
    /// Clips of a step.
    pub batch: usize,
}

/// Which file a slot is kept in; gradients are not kept.
pub fn file_of(kind: &SlotKind) -> Option<&'static str> {
    match kind {
        SlotKind::Trained { .. }
        | SlotKind::Average { .. }
        | SlotKind::Frozen
        | SlotKind::Unused
        | SlotKind::Buffer => Some(MODEL),
        SlotKind::Moment { .. } => Some(OPTIMIZER),
        SlotKind::Gradient { .. } => None,
    }
}

/// The directory of a step's checkpoint.
pub fn directory(checkpoints: &Path, step: u64) -> PathBuf {
    checkpoints.join(format!("{step:08}"))
}

/// The step of a checkpoint's directory, if it is named like one.
pub fn step_of(directory: &Path) -> Option<u64> {
    let name = directory.file_name()?.to_str()?;
    if name.len() < 8 || !name.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    name.parse().ok()
}
