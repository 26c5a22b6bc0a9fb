//! The program's `draw` entry, run by the interpreter: one [`Answer`] a mask.

use vjepac::ir::eval::{self, Env};
use vjepac::ir::graph::{SegmentData, Segments};
use vjepac::program::{Entry, MaskOutputs, Program};

use super::{DrawKey, MaskError};

/// Yes or no for every element of some blocks: one block a clip, or one for all of them (a mask that is wholly
/// `per batch`).
#[derive(Clone, Debug, PartialEq)]
pub struct Plane {
    /// Elements, block after block.
    pub values: Vec<bool>,
    /// Elements of a block.
    pub block: usize,
}

impl Plane {
    /// The block of a clip.
    pub fn block(&self, clip: usize) -> &[bool] {
        let start = if self.values.len() == self.block { 0 } else { clip * self.block };
        &self.values[start..start + self.block]
    }
}

/// What the draw entry says of one mask.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Visible tokens: (extra axes..., tokens).
    pub context: Plane,
    /// Tokens to predict.
    pub target: Plane,
    /// Requirements, all of which must hold.
    pub require: Vec<Plane>,
}

/// Runs the draw entry.
pub fn interpret(program: &Program, key: DrawKey) -> Result<Vec<Answer>, MaskError> {
    let bug = |m: String| MaskError::Entry(format!("compiler bug: {m}"));
    let mut env = Env {
        segments: Segments { clips: key.clips, sets: vec![SegmentData::default(); program.tables.sets.len()] },
        seed: key.seed,
        step: key.step,
        clip_base: key.first_clip as u64,
        attempts: vec![key.attempt; key.clips],
        scalars: crate::train::schedule::scalars(program, key.step, 1.0).map_err(|e| bug(e.to_string()))?,
        ..Env::default()
    };
    let outputs = eval::eval(&program.tables, program.entry(Entry::Draw), &mut env).map_err(bug)?;
    let plane = |name: &str| -> Result<Plane, MaskError> {
        let found = outputs.iter().find(|(n, _)| n == name);
        let (_, tensor) = found.ok_or_else(|| bug(format!("the draw entry has no output `{name}`")))?;
        let block = tensor.blocks.first().map_or(0, Vec::len);
        Ok(Plane { values: tensor.blocks.iter().flatten().map(|v| *v != 0.0).collect(), block })
    };
    let answer = |mask: &MaskOutputs| {
        let require = mask.require.iter().map(|name| plane(name)).collect::<Result<_, _>>()?;
        Ok(Answer { context: plane(&mask.context)?, target: plane(&mask.target)?, require })
    };
    program.masks.iter().map(answer).collect()
}
