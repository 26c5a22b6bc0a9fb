//! Habits from Python and other languages that the grammar lets through, answered with the translation.

use super::ast::{Arg, Word};
use crate::diag::Diagnostic;
use crate::source::Span;

/// `f(dim: 3)`.
pub(super) fn colon_in_call(arg: &Arg) -> Option<Diagnostic> {
    let name = arg.name.as_ref().filter(|_| arg.colon)?;
    let span = name.span.to(arg.value.span);
    let label = format!("write `{} = ...`", name.text);
    let error = Diagnostic::error("V0001", "settings are passed with `=`, not `:`", span, label);
    Some(error.help("`:` gives a shape or a size, as in `x: [dim]` and `(part: 3, heads, d)`; `=` gives a value"))
}

/// `(time = 8, rows)`.
pub(super) fn equals_in_group(arg: &Arg) -> Option<Diagnostic> {
    let name = arg.name.as_ref().filter(|_| !arg.colon)?;
    let span = name.span.to(arg.value.span);
    let label = format!("write `{}: ...`", name.text);
    let error = Diagnostic::error("V0001", "sizes in a group are given with `:`, not `=`", span, label);
    Some(error.help("`:` gives a shape or a size, as in `(part: 3, heads, d)`; `=` gives a value to a setting"))
}

/// `None`, `True`, `False`.
pub(super) fn foreign_name(word: &Word) -> Option<Diagnostic> {
    let ours = match &*word.text {
        "None" => "none",
        "True" => "true",
        "False" => "false",
        _ => return None,
    };
    let message = format!("`{}` is written `{ours}` here", word.text);
    Some(Diagnostic::error("V0005", message, word.span, format!("write `{ours}`")))
}

/// `a < b < c` and `a..b..c`.
pub(super) fn chained(compare: bool, span: Span) -> Diagnostic {
    if compare {
        Diagnostic::error("V0005", "comparisons do not chain", span, "second comparison")
            .help("compare twice: `a < b and b < c`")
    } else {
        Diagnostic::error("V0005", "an interval has two ends", span, "third end")
    }
}
