//! All errors of a file at once, at most one a statement.
//!
//! A statement that the grammar refuses is blanked out, byte for byte, and the rest is parsed again. Spans stay true
//! because no byte moves. An error before the blanked range would only be a consequence of the blanking, so recovery stops
//! there.

use pest::Parser;
use pest::error::Error;

use super::explain_error::{RESERVED, explain, open_bracket, position, swallowed, token_at};
use super::parse::{Grammar, Rule, late_errors};
use super::tokens::{Tokens, scan};
use crate::diag::Diagnostic;
use crate::source::FileId;

/// More than this many errors help nobody.
const MAX_ERRORS: usize = 20;
/// Larger texts are machine-made and not worth parsing many times; they get their first error.
const MAX_TEXT: usize = 1 << 20;

/// The errors of a text whose first one is `error`.
pub(super) fn all_errors(file: FileId, text: &str, tokens: &Tokens, mut error: Error<Rule>) -> Vec<Diagnostic> {
    let mut errors = vec![explain(file, text, tokens, &error)];
    if text.len() > MAX_TEXT {
        return errors;
    }
    let mut rest = text.to_owned();
    let mut tokens = scan(text);
    while errors.len() < MAX_ERRORS {
        let Some((start, end)) = statement_around(&rest, &tokens, position(&error)) else { break };
        let blank = |b: u8| if matches!(b, b'\n' | b'\r') { b } else { b' ' };
        let bytes = rest.bytes().enumerate().map(|(i, b)| if (start..end).contains(&i) { blank(b) } else { b });
        let Ok(blanked) = String::from_utf8(bytes.collect()) else { break };
        rest = blanked;
        tokens = scan(&rest);
        match Grammar::parse(Rule::file, &rest) {
            Ok(mut pairs) => {
                errors.extend(pairs.next().map(|p| late_errors(file, &rest, &tokens, p)).unwrap_or_default());
                break;
            }
            Err(next) if position(&next) <= start => break,
            Err(next) => {
                errors.push(explain(file, &rest, &tokens, &next));
                error = next;
            }
        }
    }
    errors.sort_by_key(|e| e.labels.first().map(|l| l.span.start));
    errors
}

/// The bytes of the statement or definition that holds `byte`.
fn statement_around(text: &str, tokens: &Tokens, byte: usize) -> Option<(usize, usize)> {
    let at = token_at(tokens, byte);
    let at = if swallowed(text, tokens, at) { at - 2 } else { at };
    let brace = enclosing_brace(text, tokens, at);
    let depths = depths(text, tokens);
    let level = brace.map_or(0, |i| depths[i] + 1);
    let first = brace.map_or(0, |i| i + 1);
    let starts = |i: usize| depths[i] == level && is_start(text, tokens, i, brace.is_some());
    let closes = |i: usize| depths[i] < level;
    // A token that starts a statement or ends the body is fine itself: the statement before it is not complete.
    let at = if at > first && tokens.all.get(at).is_none_or(|_| starts(at) || closes(at)) { at - 1 } else { at };
    let start = (first..=at.min(tokens.all.len().checked_sub(1)?)).rev().find(|&i| starts(i)).unwrap_or(first);
    let end = (at.max(start) + usize::from(at == start)..tokens.all.len()).find(|&i| starts(i) || closes(i));
    let from = tokens.all.get(start)?.start;
    let to = end.map_or(text.len(), |i| tokens.all[i].start);
    (from < to).then_some((from, to))
}

/// The `{` around a token; other brackets between them are part of the statement.
fn enclosing_brace(text: &str, tokens: &Tokens, at: usize) -> Option<usize> {
    let mut open = open_bracket(text, tokens, at)?;
    while &text[tokens.all[open].start..tokens.all[open].end] != "{" {
        open = open_bracket(text, tokens, open)?;
    }
    Some(open)
}

/// How many brackets are open around each token; a bracket counts as outside of itself.
fn depths(text: &str, tokens: &Tokens) -> Vec<usize> {
    let mut depth: usize = 0;
    let step = |token: &super::tokens::Token| match &text[token.start..token.end] {
        "(" | "[" | "{" => {
            depth += 1;
            depth - 1
        }
        ")" | "]" | "}" => {
            depth = depth.saturating_sub(1);
            depth
        }
        _ => depth,
    };
    tokens.all.iter().map(step).collect()
}

/// True for a token that starts its line and looks like the start of a statement (`name =`, a keyword) or definition.
fn is_start(text: &str, tokens: &Tokens, i: usize, in_body: bool) -> bool {
    let word = |i: usize| tokens.all.get(i).map_or("", |t| &text[t.start..t.end]);
    let start = tokens.all[i].start;
    let line = text[..start].rfind('\n').map_or(0, |i| i + 1);
    if !text[line..start].trim().is_empty() {
        return false;
    }
    if !in_body {
        return matches!(word(i), "from" | "fn" | "block" | "mask" | "model");
    }
    let keyword = matches!(word(i), "param" | "buffer" | "require" | "forward" | "return" | "metric");
    let name = word(i).starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    keyword || name && matches!(word(i + 1), "=" | "~" | "{" | "." | "," | ":" | "[") && !RESERVED.contains(&word(i))
}
