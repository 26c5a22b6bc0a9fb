//! The long text behind an error code: `vjepac explain V0205`.

use serde_json::json;

/// Code, what it means, what to do.
pub type Code = (&'static str, &'static str, &'static str);

/// Every code that the compiler gives.
const CODES: [Code; 37] = [
    (
        "V0000",
        "the text does not follow the grammar",
        "The message names what was found and what could have stood there. The place is the first one that cannot \
         be read; the mistake may be just before it.",
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
        "The place is the opening bracket or quote. If the end of a body stands further left than its beginning, \
         the innermost body that looks unfinished is blamed.",
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
        "Brackets, operators and calls inside one another are limited, so that no text can exhaust the stack. Give \
         inner parts names of their own.",
    ),
    (
        "V0005",
        "a habit of another language",
        "The message gives the translation. `^` is a power, `and`, `or`, `not` are words, texts stand between \
         double quotes, comments start with `#`, comparisons do not chain, brackets name axes and have no \
         positions.",
    ),
    (
        "V0101",
        "no such setting",
        "A block, mask or function is given a setting that its header does not list. A misspelt setting would \
         otherwise change nothing in silence. The message lists the settings that exist.",
    ),
    (
        "V0102",
        "unknown name",
        "The name is no field, setting, axis or definition that can be seen here. Scopes from the inside out: the \
         forward body, the block's body, its settings, the file with its imports, built-ins. What the standard \
         library has must be imported.",
    ),
    (
        "V0103",
        "no such field",
        "A path in a `with`, a sweep or `--set` walks through fields of the model and settings of its parts. A new \
         field is allowed in a `with` only if another line of the same `with` reads it.",
    ),
    (
        "V0104",
        "a value of the wrong kind",
        "A setting keeps its kind: a number stays a number, a whole number stays whole, a block stays a block, a \
         list stays a list.",
    ),
    (
        "V0105",
        "a definition contains itself",
        "Definitions are expanded where they are used, so none may occur inside its own expansion, also not \
         through a block that is passed as a setting. The message shows the chain.",
    ),
    (
        "V0106",
        "a field needs its own value",
        "Fields may refer to one another in any order, but not in a circle. In a `with`, the own name means the \
         value before the change.",
    ),
    (
        "V0107",
        "a field that nobody reads",
        "It would change nothing. Use it, remove it, or start its name with `_` to keep it on purpose, for example \
         for weights that are stored and not used.",
    ),
    (
        "V0108",
        "wrong or missing settings",
        "A call or section lacks something that is required, gives it twice, or gives too many values.",
    ),
    (
        "V0109",
        "an import that cannot be followed",
        "The module does not exist, cannot be read, does not define the name, or imports form a circle. Modules \
         are `std.NAME` or a path relative to the file, without its extension.",
    ),
    (
        "V0110",
        "two things of one name",
        "Two definitions share a name in one file, or two weights would be stored under one key. Rename one, or \
         give a field another stored key: `name \"key\" = ...`.",
    ),
    (
        "V0111",
        "this cannot be called like that",
        "Functions and blocks are called with `(...)`; axes go in `[...]` before the inputs of a function. A model \
         is not called: its fields are.",
    ),
    (
        "V0112",
        "more weights than any machine holds",
        "Some size is far too large. The message names the largest weight; `vjepac settings` shows where every size \
         was set.",
    ),
    (
        "V0201",
        "a requirement does not hold",
        "A block states with `require` what its settings must satisfy. All values that take part are shown with \
         the places that set them.",
    ),
    (
        "V0202",
        "a size is not a whole number",
        "An axis has a whole number of positions. Sizes that are computed, such as pixels by patch, must divide.",
    ),
    (
        "V0203",
        "an input lacks an axis",
        "A block works on the axes that its `forward` names. An axis that was passed by name as a setting must be \
         in the input itself; another axis of the same size will not do.",
    ),
    ("V0204", "no such axis", "A tensor is addressed by the names of its axes; the message shows which it has."),
    (
        "V0205",
        "an outer product was not asked for",
        "Elementwise operations need the axes of one side to contain those of the other. Sum over an axis with \
         `dot[axis](a, b)`, take tokens with `x[tokens in set]`, repeat with `spread[axis](x)`.",
    ),
    (
        "V0206",
        "the loss is not one number",
        "A model minimises one number: average the list or tensor with `mean(...)`. The mean over the clips of a \
         batch comes last and is not written.",
    ),
    (
        "V0207",
        "an index set of another grid",
        "Index sets remember what they index: indices into the tokens of one grid pick from that grid only.",
    ),
    (
        "V0208",
        "these axes cannot be split, merged or combined",
        "A split may leave one size open, and sizes must multiply to the axis that is split; two axes that meet \
         must have one size.",
    ),
    (
        "V0209",
        "a buffer has other axes than declared",
        "The value of `buffer name: [...] = ...` must have exactly the declared axes.",
    ),
    (
        "V0211",
        "values of different draws are combined",
        "A value that exists once for each mask of a list meets one of another list. Average each over its masks \
         first.",
    ),
    (
        "V0301",
        "a unit that does not fit",
        "A setting has a unit; a bare number takes it, another unit is an error. Equal units cancel in a quotient, \
         products of units are plain counts.",
    ),
    ("V0302", "a schedule of unknown length", "`s then t` needs to know where s ends: `s over n then t`."),
    ("V0303", "unknown unit", "The units are px, frames, s, ms, fps, steps, epochs, clips and %."),
    ("V0304", "units do not agree", "Numbers that are added or compared must have one unit."),
    (
        "V0401",
        "a mask leaves nothing",
        "In trial draws no clip had both tokens to see and tokens to predict. A draw with an empty side is \
         repeated at most 64 times, then training stops.",
    ),
    (
        "V0402",
        "a mask does not say something about every token",
        "`context` and `target` say yes or no for each position of the grid. What does not depend on an axis is \
         repeated along it by `[ ... for t in time ]`.",
    ),
    (
        "V0403",
        "a mask or draw is not well formed",
        "A mask defines `context` and `target` over the factors of its tokens; a draw is from an interval, a \
         distribution or a plain value.",
    ),
    (
        "V0501",
        "a constant output would have zero loss",
        "Every path from the data to the loss passes through trained weights, so the model can collapse. Compute \
         the target by a moving average (`ema`) or stop its gradient (`stop`).",
    ),
    (
        "V0502",
        "weights that the loss never reaches",
        "They are stored and never change. Use them, or declare them as `_name` to keep them on purpose.",
    ),
];

/// The code that is meant, if the argument looks like one.
pub fn find(argument: &str) -> Option<&'static Code> {
    CODES.iter().find(|c| c.0.eq_ignore_ascii_case(argument))
}

/// True for `V` and four digits.
pub fn looks_like(argument: &str) -> bool {
    let digits = argument.strip_prefix(['V', 'v']);
    digits.is_some_and(|d| d.len() == 4 && d.bytes().all(|b| b.is_ascii_digit()))
}

/// A code with its text.
pub fn show(code: &Code, json: bool) -> String {
    let (code, title, text) = code;
    if json {
        return super::session::pretty(&json!({ "code": code, "title": title, "text": text }));
    }
    format!("{code}: {title}\n\n{text}\n")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Every quoted code in the sources below `folder`.
    fn used(folder: &Path, codes: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                used(&path, codes);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let quoted = text.split('"').filter(|p| p.len() == 5 && p.starts_with("V0"));
                codes.extend(quoted.filter(|p| p[2..].bytes().all(|b| b.is_ascii_digit())).map(str::to_owned));
            }
        }
    }

    #[test]
    fn every_code_in_use_is_explained() {
        let mut codes = vec![];
        used(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut codes);
        codes.retain(|c| super::find(c).is_none());
        assert!(codes.is_empty(), "without an explanation: {codes:?}");
    }
}
