//! What must hold before the grammar is tried: brackets pair up, and nothing is nested beyond reason.
//!
//! An unclosed bracket would otherwise be reported at the end of the file, and deep nesting would run out of stack in
//! every later stage. Depth counts open brackets and, in each, the operators, calls and fields in a row since the last
//! `,` or `=`, because those become levels of the tree too.

use super::tokens::{TokenKind, Tokens};
use crate::diag::Diagnostic;
use crate::source::{FileId, Span};

/// Deepest tree accepted; chosen by feel: far beyond what anyone writes, well within a thread's stack.
pub const MAX_DEPTH: usize = 400;
/// Deepest brackets accepted, which cost the most stack.
pub const MAX_BRACKETS: usize = 100;

struct Open {
    token: usize,
    /// Levels of the expression being written inside this bracket.
    links: usize,
}

/// The first thing that is wrong with brackets or depth.
pub fn check(file: FileId, text: &str, tokens: &Tokens) -> Option<Diagnostic> {
    let word = |i: usize| &text[tokens.all[i].start..tokens.all[i].end];
    let span = |i: usize| Span { file, start: tokens.all[i].start as u32, end: tokens.all[i].end as u32 };
    let mut open: Vec<Open> = vec![];
    let mut suspect = None;
    let mut links = 0; // of the innermost level
    let mut depth = 0; // of the levels around it
    for (i, token) in tokens.all.iter().enumerate() {
        match token.kind {
            TokenKind::OpenText => return Some(open_text(file, text, tokens, i)),
            TokenKind::Number | TokenKind::Text | TokenKind::Stray => continue,
            TokenKind::Word => match word(i) {
                "return" | "require" | "fn" | "block" | "mask" | "model" => links = 0,
                "else" | "not" | "and" | "or" | "then" | "over" | "in" | "with" => links += 1,
                _ => {}
            },
            TokenKind::Sign => match word(i) {
                "(" | "[" | "{" => {
                    open.push(Open { token: i, links });
                    depth += links + 1;
                    links = 0;
                }
                close @ (")" | "]" | "}") => {
                    let Some(last) = open.pop() else { return Some(nothing_open(close, span(i))) };
                    let opener = word(last.token);
                    if partner(opener) != close {
                        return Some(mismatch(opener, close, span(last.token), span(i)));
                    }
                    if suspect.is_none() && leaves_block(text, tokens.all[last.token].start, token.start) {
                        suspect = Some(last.token);
                    }
                    depth -= last.links + 1;
                    links = last.links + 1;
                }
                "," | "=" | "~" => links = 0,
                _ => links += 1,
            },
        }
        if depth + links > MAX_DEPTH || open.len() > MAX_BRACKETS {
            return Some(too_deep(span(i)));
        }
    }
    let last = open.last()?.token;
    Some(unclosed(word(suspect.unwrap_or(last)), span(suspect.unwrap_or(last))))
}

/// What the frames of an over-deep text say; also used where the grammar itself gives up.
pub fn too_deep(span: Span) -> Diagnostic {
    Diagnostic::error("V0004", "this is too deeply nested", span, "the limit is reached here")
        .help("give parts of it names of their own")
        .note(format!("at most {MAX_BRACKETS} brackets and {MAX_DEPTH} operators may stand inside one another"))
}

fn partner(open: &str) -> &'static str {
    match open {
        "(" => ")",
        "[" => "]",
        _ => "}",
    }
}

/// True if the closing bracket starts its line further left than the line of the opening one: then it was meant for
/// an outer bracket.
fn leaves_block(text: &str, open: usize, close: usize) -> bool {
    let (open_line, close_line) = (line_start(text, open), line_start(text, close));
    let first_on_line = text[close_line..close].trim().is_empty();
    first_on_line && close - close_line < indent(&text[open_line..])
}

fn line_start(text: &str, byte: usize) -> usize {
    text[..byte].rfind('\n').map_or(0, |i| i + 1)
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '\t']).len()
}

fn unclosed(open: &str, span: Span) -> Diagnostic {
    let close = partner(open);
    Diagnostic::error("V0002", format!("this `{open}` is never closed"), span, format!("needs a `{close}`"))
}

fn mismatch(open: &str, close: &str, opened: Span, closed: Span) -> Diagnostic {
    let wanted = partner(open);
    let label = format!("expected `{wanted}` before this `{close}`");
    Diagnostic::error("V0002", format!("this `{open}` is not closed"), opened, format!("needs a `{wanted}`"))
        .label(closed, label)
}

fn nothing_open(close: &str, span: Span) -> Diagnostic {
    Diagnostic::error("V0002", format!("there is nothing open that this `{close}` could close"), span, "one too many")
}

fn open_text(file: FileId, text: &str, tokens: &Tokens, last: usize) -> Diagnostic {
    // The text that runs over a line end is the one whose quote was forgotten.
    let runs_on = |t: &&super::tokens::Token| t.kind == TokenKind::Text && text[t.start..t.end].contains('\n');
    let token = tokens.all.iter().find(runs_on).unwrap_or(&tokens.all[last]);
    let span = Span { file, start: token.start as u32, end: token.start as u32 + 1 };
    Diagnostic::error("V0002", "this text has no closing `\"`", span, "starts here")
}
