//! Mask draws of a step: the program's `draw` entry says yes or no for every token; this folder turns the answers into
//! index sets and the segment table ([`Segments`]).
//!
//! A clip whose draw fails (a `require` that does not hold, an empty context or target) is drawn again, up to
//! [`ATTEMPTS`] times; draws are keyed by the attempt, so other clips and other masks are not disturbed, and what is
//! drawn `per batch` stays as it was. Index sets are then trimmed to the shortest of each group of `train.group` clips.
//! All of it is a function of (program, seed, step, place in the batch).

mod draw;
mod sets;

use std::fmt;

use vjepac::ir::graph::Segments;
use vjepac::program::Program;

pub use draw::{Answer, Plane};

/// How often a clip is drawn before the mask is given up.
pub const ATTEMPTS: u32 = 64;

/// Which draws: part of their key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrawKey {
    /// Seed of the run.
    pub seed: u64,
    /// Step, from 1.
    pub step: u64,
    /// Place of the first clip in the batch, from 0.
    pub first_clip: usize,
    /// Clips to draw for.
    pub clips: usize,
    /// Attempt, from 0.
    pub attempt: u32,
}

/// Why no masks could be drawn.
#[derive(Clone, Debug, PartialEq)]
pub enum MaskError {
    /// A mask that fails at every attempt.
    Exhausted {
        /// Path of the mask.
        mask: String,
        /// Place of the clip in the batch.
        clip: usize,
        /// What failed last.
        reason: String,
    },
    /// The draw entry cannot be run.
    Entry(String),
}

impl fmt::Display for MaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MaskError::Exhausted { mask, clip, reason } => write!(
                f,
                "mask `{mask}` failed {ATTEMPTS} times for clip {clip} of the batch: {reason}; \
                 use smaller blocks or a weaker `require`"
            ),
            MaskError::Entry(m) => f.write_str(m),
        }
    }
}

impl std::error::Error for MaskError {}

impl From<MaskError> for crate::error::Error {
    fn from(error: MaskError) -> Self {
        crate::error::Error::Failed(error.to_string())
    }
}

/// Draws the masks of steps.
#[derive(Clone, Copy, Debug)]
pub struct MaskSampler;

impl MaskSampler {
    /// Index sets of `clips` clips of a step, the first of them at place `first_clip` of the batch. Groups are counted
    /// from that place, so it must be the start of one.
    pub fn draw(
        program: &Program,
        seed: u64,
        step: u64,
        first_clip: usize,
        clips: usize,
    ) -> Result<Segments, MaskError> {
        let key = DrawKey { seed, step, first_clip, clips, attempt: 0 };
        let mut run = |key| draw::interpret(program, key);
        sets::segments(program, key, &mut run)
    }
}

#[cfg(test)]
mod tests;
