//! The program's `draw` entry, run by the interpreter: one [`Answer`] a mask.

use vjepac::program::Program;

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
    let _ = (program, key);
    Err(MaskError::Entry("compiler bug: the interpreter is not linked in".into()))
}
