//! The long text behind an error code: `vjepac explain V0205`.

use serde_json::json;

/// Code, what it means, what to do.
pub type Code = (&'static str, &'static str, &'static str);

/// Every code that the compiler gives.
const CODES: [Code; 6] = [
    (
        "V0000",
        "the text does not follow the grammar",
        "The message names what was found and what could have stood there. The place is the first one that cannot be \
         read; the mistake may be just before it.",
    ),
    (
        "V0001",
        "`:` and `=` are mixed up",
        "`=` gives a value: `dim = 192` in a body or a call. `:` gives a shape or a size: `x: [dim]` in a header, \
         `(part: 3, heads, d)` in a group.",
    ),
    (
        "V0002",
        "a bracket or a text is not closed",
        "The place is the opening bracket or quote. If the end of a body stands further left than its beginning, the \
         innermost body that looks unfinished is blamed.",
    ),
    (
        "V0003",
        "two statements on one line run together",
        "A name after a bare number reads as its unit: in `{ a = 3 b = 4 }`, `3 b` is three of the unit `b`. Write \
         `{ a = 3, b = 4 }`, or a line for each.",
    ),
    (
        "V0004",
        "too deeply nested",
        "Brackets, operators and calls inside one another are limited, so that no text can exhaust the stack. Give inner \
         parts names of their own.",
    ),
    (
        "V0005",
        "a habit of another language",
        "The message gives the translation. `^` is a power, `and`, `or`, `not` are words, texts stand between double \
         quotes, comments start with `#`, comparisons do not chain, brackets name axes and have no positions.",
    ),
];

/// The code that is meant, if the argument looks like one.
pub fn find(argument: &str) -> Option<&'static Code> {
    CODES.iter().find(|c| c.0.eq_ignore_ascii_case(argument))
}

/// A code with its text.
pub fn show(code: &Code, json: bool) -> String {
    let (code, title, text) = code;
    if json {
        return super::session::pretty(&json!({ "code": code, "title": title, "text": text }));
    }
    format!("{code}: {title}\n\n{text}\n")
}
