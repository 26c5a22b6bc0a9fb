//! What a model must satisfy beyond what elaboration already demands, and the lints that know the method.
//!
//! One file a rule. Rules see the [`Model`]; the trial draws of masks also need the built `draw` entry.

mod collapse;
mod keys;
mod masks;

use crate::build::Built;
use crate::diag::Diagnostic;
use crate::model::Model;

pub use masks::TRIAL_DRAWS;

/// Everything that is to be said about a model on its own.
pub fn check(model: &Model) -> Vec<Diagnostic> {
    let mut found = keys::check(model);
    found.extend(collapse::check(model));
    found
}

/// What trial draws of the masks show.
pub fn check_masks(model: &Model, built: &Built) -> Vec<Diagnostic> {
    masks::check(model, built)
}
