//! What the compiler has to say to its user.
//!
//! A diagnostic names what was expected, what was found and where; `help` says what to write instead. It is built where
//! the fact is known and rendered only at the edge (`render.rs`).

use crate::source::Span;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The model cannot be compiled.
    Error,
    /// The model compiles, but its author should know.
    Warning,
}

/// A place and what is to be said about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// A short text shown under it.
    pub text: String,
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    /// Stable code such as `V0101`.
    pub code: &'static str,
    /// Error or warning.
    pub severity: Severity,
    /// One sentence in the user's words: lower case, no full stop.
    pub message: String,
    /// Places, the first being the one to blame. Empty only if there is no place (a missing file).
    pub labels: Vec<Label>,
    /// What to write instead.
    pub help: Vec<String>,
    /// Where a value came from, what would be accepted.
    pub notes: Vec<String>,
}

impl Diagnostic {
    /// An error with one labelled place.
    pub fn error(code: &'static str, message: impl Into<String>, span: Span, label: impl Into<String>) -> Self {
        let labels = vec![Label { span, text: label.into() }];
        let message = message.into();
        Diagnostic { code, severity: Severity::Error, message, labels, help: vec![], notes: vec![] }
    }

    /// A warning with one labelled place.
    pub fn warning(code: &'static str, message: impl Into<String>, span: Span, label: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, message, span, label) }
    }

    /// Adds a second place.
    pub fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Adds advice.
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// Adds advice if there is any.
    pub fn maybe_help(mut self, text: Option<String>) -> Self {
        self.help.extend(text);
        self
    }

    /// Adds background.
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }
}

/// One or more errors; `?` carries them up.
pub type Fallible<T> = Result<T, Vec<Diagnostic>>;
