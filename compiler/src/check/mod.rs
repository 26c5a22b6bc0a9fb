//! What a model must satisfy beyond what elaboration already demands, and the lints that know the method.
//!
//! One file a rule. Rules see the [`Model`]; the trial draws of masks also need the built `draw` entry.

mod collapse;
mod keys;
mod masks;

use crate::build::Built;
use crate::diag::{Diagnostic, Severity};
use crate::model::Model;
use crate::source::Span;

pub use masks::TRIAL_DRAWS;

/// Everything that is to be said about a model on its own.
pub fn check(model: &Model) -> Vec<Diagnostic> {
    let mut found = keys::check(model);
    found.extend(collapse::check(model));
    found.retain(|d| !is_allowed(model, d));
    found
}

/// True for a warning about a line that says `allow(...)`.
fn is_allowed(model: &Model, diagnostic: &Diagnostic) -> bool {
    let Some(at) = diagnostic.labels.first().map(|l| l.span) else { return false };
    let inside = |span: &Span| span.file == at.file && span.start <= at.start && at.end <= span.end;
    diagnostic.severity == Severity::Warning
        && model.allowed.iter().any(|(code, span)| *code == diagnostic.code && inside(span))
}

/// What trial draws of the masks show.
pub fn check_masks(model: &Model, built: &Built) -> Vec<Diagnostic> {
    masks::check(model, built)
}
