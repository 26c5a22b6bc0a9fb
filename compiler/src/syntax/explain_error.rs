//! Why the grammar refused a text, in the user's words.
//!
//! Pest gives the furthest place it reached and some of the rules it tried there. Known mistakes are recognised from
//! the tokens around that place and answered with what to write; anything else becomes "expected X, found Y".

use pest::error::{Error, ErrorVariant, InputLocation};

use super::parse::Rule;
use super::rule_names;
use super::tokens::{Token, TokenKind, Tokens};
use crate::diag::Diagnostic;
use crate::source::{FileId, Span};

/// The diagnostic for a refusal.
pub(super) fn explain(file: FileId, text: &str, tokens: &Tokens, error: &Error<Rule>) -> Diagnostic {
    let byte = position(error);
    let at = token_at(tokens, byte);
    let positives: &[Rule] = match &error.variant {
        ErrorVariant::ParsingError { positives, .. } => positives,
        ErrorVariant::CustomError { .. } => &[],
    };
    let place = Place { file, text, tokens, at, positives };
    let known = [
        two_statements,
        if_without_else,
        swallowed_definition,
        foreign_sign,
        number_point,
        statement_word,
        colon_for_equals,
        equals_or_compare,
        python_pick,
        dotted_section,
        axes_before_equals,
        misplaced_import,
        reserved_name,
        missing_comma,
    ];
    known.iter().find_map(|probe| probe(&place)).unwrap_or_else(|| general(&place))
}

/// The byte that pest could not get beyond.
pub(super) fn position(error: &Error<Rule>) -> usize {
    match error.location {
        InputLocation::Pos(byte) | InputLocation::Span((byte, _)) => byte,
    }
}

/// The token that holds `byte`, or the first one after it.
pub(super) fn token_at(tokens: &Tokens, byte: usize) -> usize {
    let next = tokens.at(byte);
    match next.checked_sub(1).and_then(|i| tokens.all.get(i)) {
        Some(before) if before.end > byte => next - 1,
        _ => next,
    }
}

/// A token and its neighbours.
struct Place<'a> {
    file: FileId,
    text: &'a str,
    tokens: &'a Tokens,
    at: usize,
    /// Rules that pest tried here.
    positives: &'a [Rule],
}

impl<'a> Place<'a> {
    fn token(&self, offset: isize) -> Option<Token> {
        let i = self.at.checked_add_signed(offset)?;
        self.tokens.all.get(i).copied()
    }

    /// The token's text, empty beyond the ends.
    fn word(&self, offset: isize) -> &'a str {
        self.token(offset).map_or("", |t| &self.text[t.start..t.end])
    }

    fn is(&self, offset: isize, kind: TokenKind) -> bool {
        self.token(offset).is_some_and(|t| t.kind == kind)
    }

    fn span_of(&self, offset: isize) -> Span {
        let (start, end) = match self.token(offset) {
            Some(t) => (t.start, t.end),
            // The end of the text: point behind the last token.
            None => {
                let end = self.tokens.all.last().map_or(0, |t| t.end);
                (end, end)
            }
        };
        Span { file: self.file, start: start as u32, end: end as u32 }
    }

    fn span(&self) -> Span {
        self.span_of(0)
    }

    fn first_on_line(&self, offset: isize) -> bool {
        let Some(token) = self.token(offset) else { return false };
        let line = self.text[..token.start].rfind('\n').map_or(0, |i| i + 1);
        self.text[line..token.start].trim().is_empty()
    }

    /// The innermost bracket that is open before this token.
    fn open(&self) -> Option<&'a str> {
        open_bracket(self.text, self.tokens, self.at).map(|i| {
            let t = self.tokens.all[i];
            &self.text[t.start..t.end]
        })
    }

    /// True where a statement may start.
    fn starts_statement(&self, offset: isize) -> bool {
        let before = self.word(offset - 1);
        self.first_on_line(offset) || matches!(before, "{" | ",")
    }

    fn error(&self, code: &'static str, message: impl Into<String>, label: impl Into<String>) -> Option<Diagnostic> {
        Some(Diagnostic::error(code, message, self.span(), label))
    }
}

/// Index of the innermost bracket open before token `at`.
pub(super) fn open_bracket(text: &str, tokens: &Tokens, at: usize) -> Option<usize> {
    let mut open = vec![];
    for (i, token) in tokens.all.iter().enumerate().take(at) {
        match &text[token.start..token.end] {
            "(" | "[" | "{" => open.push(i),
            ")" | "]" | "}" => {
                open.pop();
            }
            _ => {}
        }
    }
    open.pop()
}

/// Words that cannot be names.
pub(super) const RESERVED: [&str; 12] =
    ["if", "else", "for", "in", "and", "or", "not", "with", "over", "then", "per", "return"];

const UNITS: [&str; 8] = ["px", "frames", "s", "ms", "fps", "steps", "epochs", "clips"];

/// `{ a = 3 b = 4 }`: the grammar reads `3 b` as a number with a unit.
fn two_statements(p: &Place) -> Option<Diagnostic> {
    // The word that was taken for a unit, up to a few tokens back: `b`, `b.c`.
    let back = (1..=3).map(|i| -i).find(|&i| p.is(i, TokenKind::Word) && p.is(i - 1, TokenKind::Number))?;
    if (back + 1..0).any(|i| !p.is(i, TokenKind::Word) && p.word(i) != ".") || UNITS.contains(&p.word(back)) {
        return None;
    }
    if p.open() != Some("{") || !(matches!(p.word(0), "=" | "{" | "~" | "." | ":" | ",") || p.is(0, TokenKind::Word)) {
        return None;
    }
    let (number, name) = (p.word(back - 1), p.word(back));
    let span = p.span_of(back - 1).to(p.span_of(back));
    let message = "two statements on one line need `,` between them";
    let error = Diagnostic::error("V0003", message, span, format!("write `{number}, {name}`"));
    Some(error.note(format!("`{number} {name}` reads as a number with a unit")))
}

/// `a if c` at the end of a statement.
fn if_without_else(p: &Place) -> Option<Diagnostic> {
    let ended = p.token(0).is_none() || p.starts_statement(0) || matches!(p.word(0), "," | "}" | ")" | "]");
    if !p.positives.contains(&Rule::ELSE) || !ended {
        return None;
    }
    let back = (1..).map(|i| -i).take_while(|&i| p.token(i).is_some()).find(|&i| p.word(i) == "if")?;
    let error = Diagnostic::error("V0000", "this `if` has no `else`", p.span_of(back), "needs an `else`");
    Some(error.help("a value is needed in both cases: `a if condition else b`"))
}

/// `= b +` before a line that starts with `model n`: `model` was read as a value.
fn swallowed_definition(p: &Place) -> Option<Diagnostic> {
    if !swallowed(p.text, p.tokens, p.at) {
        return None;
    }
    let message = format!("expected a value after `{}`, found the next definition", p.word(-2));
    Some(Diagnostic::error("V0000", message, p.span_of(-2), "a value is missing here"))
}

/// True if the token before `at` starts a definition that an unfinished one before it took for a value.
pub(super) fn swallowed(text: &str, tokens: &Tokens, at: usize) -> bool {
    let place = Place { file: FileId(0), text, tokens, at, positives: &[] };
    let kind = matches!(place.word(-1), "fn" | "block" | "mask" | "model");
    kind && place.is(0, TokenKind::Word) && place.first_on_line(-1) && place.is(-2, TokenKind::Sign)
}

/// Signs of other languages.
fn foreign_sign(p: &Place) -> Option<Diagnostic> {
    let here = p.word(0);
    if here == "//" && p.first_on_line(0) {
        return p.error("V0005", "comments start with `#`", "write `#`");
    }
    let (message, label) = match here {
        "**" => ("a power is written `a ^ b`", "write `^`"),
        "//" => ("there is no `//`", "write `floor(a / b)`"),
        "+=" | "-=" | "*=" | "/=" | "**=" | "//=" => {
            ("a field has one value and does not change", "give the new value a name of its own")
        }
        "&&" => ("`&&` is written `and`", "write `and`"),
        "||" => ("`||` is written `or`", "write `or`"),
        "!" => ("`!` is written `not`", "write `not`"),
        ":=" => ("a field is given its value with `=`", "write `=`"),
        "=>" => ("`=>` is written `->`", "write `->`, or `>=` to compare"),
        "@" => ("there is no `@`: a product names the axis it sums over", "write `dot[axis](a, b)`"),
        "'" | "\u{2018}" | "\u{2019}" | "\u{201c}" | "\u{201d}" => ("a text stands between `\"`", "write `\"`"),
        ";" => ("statements are separated by a line end or `,`", "remove it, or write `,`"),
        "?" => ("a choice is written `a if condition else b`", "no `?` here"),
        "&" => ("`&` is written `and`", "write `and`"),
        "|" => ("`|` is written `or`", "write `or`; a join of axes is `a ++ b`"),
        "\u{d7}" | "\u{b7}" => ("a product is written `a * b`", "write `*`"),
        "\u{2212}" | "\u{2013}" | "\u{2014}" => ("this is not the minus sign `-`", "write `-`"),
        "\u{2192}" => ("an arrow is written `->`", "write `->`"),
        "\u{2264}" => ("this comparison is written `<=`", "write `<=`"),
        "\u{2265}" => ("this comparison is written `>=`", "write `>=`"),
        "\u{2260}" => ("this comparison is written `!=`", "write `!=`"),
        "\u{a0}" => ("this is a no-break space", "write an ordinary space"),
        _ if p.is(0, TokenKind::Stray) => {
            let named = here.escape_debug();
            return p.error("V0000", format!("`{named}` is not used in the language"), "does not belong here");
        }
        _ => return None,
    };
    p.error("V0005", message, label)
}

/// `.5` and `5.`
fn number_point(p: &Place) -> Option<Diagnostic> {
    let point = [0, -1].into_iter().find(|&i| p.word(i) == ".")?;
    let touches = |a: isize, b: isize| p.token(a).zip(p.token(b)).is_some_and(|(a, b)| a.end == b.start);
    if p.is(point - 1, TokenKind::Number) && touches(point - 1, point) {
        let number = p.word(point - 1);
        let span = p.span_of(point - 1).to(p.span_of(point));
        let label = format!("write `{number}`, or `{number}.0`");
        return Some(Diagnostic::error("V0005", "a number does not end in a point", span, label));
    }
    if p.is(point + 1, TokenKind::Number) && touches(point, point + 1) {
        let span = p.span_of(point).to(p.span_of(point + 1));
        let label = format!("write `0.{}`", p.word(point + 1));
        return Some(Diagnostic::error("V0005", "a number does not start with a point", span, label));
    }
    None
}

/// Keywords of other languages.
fn statement_word(p: &Place) -> Option<Diagnostic> {
    // Some are read as a name first, so that the place is the token after them.
    let offset = [0, -1].into_iter().find(|&i| is_foreign_word(p.word(i)))?;
    let word = p.word(offset);
    let in_body = p.open() == Some("{");
    if word == "lambda" {
        let error = Diagnostic::error("V0005", "there is no `lambda`", p.span_of(offset), "name the formula");
        return Some(error.help("write it as a definition, `fn name(x) = ...`, and pass `name`"));
    }
    if !p.starts_statement(offset) {
        return None;
    }
    let (message, help) = match word {
        "def" if in_body => ("a body has no `def`", "the formula of a block is `forward(x: [dim]) = ...`"),
        "def" | "function" | "func" => ("a formula starts with `fn`", "write `fn name(x) = ...`"),
        "class" => ("there is no `class`", "a formula with weights is `block name(settings) { ... }`"),
        "import" => ("an import names what it wants", "write `from std.nn import linear`"),
        "let" | "var" | "const" => ("a field needs no keyword", "write `name = value`"),
        "for" | "while" => ("there are no loops", "a list is made by `[ ... for i in n ]`"),
        "if" | "elif" => ("`if` stands inside a value", "write `name = a if condition else b`"),
        _ => return None,
    };
    Some(Diagnostic::error("V0005", message, p.span_of(offset), "not a statement of the language").help(help))
}

fn is_foreign_word(word: &str) -> bool {
    let words =
        ["def", "function", "func", "class", "import", "let", "var", "const", "for", "while", "if", "elif", "lambda"];
    words.contains(&word)
}

/// `dim: 3` in a body, and `forward(x):` or `model m:` before one.
fn colon_for_equals(p: &Place) -> Option<Diagnostic> {
    let colon = [0, -1].into_iter().find(|&i| p.word(i) == ":")?;
    let before = p.word(colon - 1);
    let header = before == ")" || matches!(p.word(colon - 2), "fn" | "block" | "mask" | "model");
    if header && p.open() != Some("(") {
        let span = p.span_of(colon);
        return Some(Diagnostic::error("V0005", "a body stands in braces", span, "write `{ ... }`, or `= value`"));
    }
    if p.open() != Some("{") || !p.is(colon - 1, TokenKind::Word) {
        return None;
    }
    let span = p.span_of(colon - 1).to(p.span_of(colon));
    let message = "a field is given its value with `=`, not `:`";
    let error = Diagnostic::error("V0001", message, span, format!("write `{before} =`"));
    Some(error.help("`:` gives a shape or a size, as in `x: [dim]` and `(part: 3, heads, d)`; `=` gives a value"))
}

/// `a == 3` for a field, `require a = 3` for a comparison.
fn equals_or_compare(p: &Place) -> Option<Diagnostic> {
    if p.word(0) == "==" {
        return p.error("V0005", "`==` compares; a value is given with `=`", "write `=`");
    }
    if p.word(0) != "=" {
        return None;
    }
    let mut back = -1;
    while p.token(back).is_some() && !matches!(p.word(back), "{" | "," | "=" | "~") {
        if matches!(p.word(back), "require" | "if" | "and" | "or" | "not") {
            return p.error("V0005", "`=` gives a value; a comparison is written `==`", "write `==`");
        }
        back -= 1;
    }
    if p.word(-2) == "." && p.open() == Some("(") {
        let error = p.error("V0000", "a setting in a call is a single name", "not in a call");
        return error.map(|e| e.help("change inner settings with `with { a.b = value }` after the call"));
    }
    if p.word(back) == "=" && p.open() == Some("{") && !p.first_on_line(0) {
        return p.error("V0005", "a statement gives one value", "second `=` in one statement");
    }
    None
}

/// `y[:, 0]`, `y[0:4]`.
fn python_pick(p: &Place) -> Option<Diagnostic> {
    if p.word(0) != ":" || p.open() != Some("[") {
        return None;
    }
    let error = p.error("V0005", "brackets name axes and have no positions", "no `:` in brackets");
    error
        .map(|e| e.help("one position is `y[axis = 0]`, an index set `y[axis in set]`; a part of a list is `xs[2..6]`"))
}

/// `encoder.blocks { ... }`.
fn dotted_section(p: &Place) -> Option<Diagnostic> {
    if p.word(0) != "{" || p.word(-2) != "." || p.open() != Some("{") {
        return None;
    }
    let inner = p.word(-1);
    let error = p.error("V0000", "a section has a single name", "expected `=`");
    error.map(|e| e.help(format!("write the sections inside one another, or `... .{inner}.setting = value`")))
}

/// `top[blocks] = value`.
fn axes_before_equals(p: &Place) -> Option<Diagnostic> {
    if p.word(0) != "[" || p.open() != Some("{") || !p.starts_statement(-1) || !p.is(-1, TokenKind::Word) {
        return None;
    }
    let message = "axes after a name belong to a draw, which is written with `~`";
    let error = p.error("V0000", message, format!("write `{} = ...` without axes", p.word(-1)));
    error.map(|e| e.help("a value for each position is `name = [ ... for i in axis ]`"))
}

/// An import after a definition.
fn misplaced_import(p: &Place) -> Option<Diagnostic> {
    if p.word(0) != "from" || !p.first_on_line(0) || p.open().is_some() {
        return None;
    }
    p.error("V0000", "imports stand before the first definition", "move this line to the top")
}

/// A reserved word where a name must stand.
fn reserved_name(p: &Place) -> Option<Diagnostic> {
    let word = p.word(0);
    let used_as_name =
        matches!(p.word(1), "=" | "~" | ":" | "{") || matches!(p.word(-1), "fn" | "block" | "mask" | "model");
    if !RESERVED.contains(&word) || !used_as_name {
        return None;
    }
    let message = format!("`{word}` is a word of the language and cannot be a name");
    p.error("V0000", message, format!("write `{word}_`, or another name"))
}

/// `f(a b)`.
fn missing_comma(p: &Place) -> Option<Diagnostic> {
    let ends = |i: isize| {
        matches!(p.token(i).map(|t| t.kind), Some(TokenKind::Word | TokenKind::Number | TokenKind::Text))
            || matches!(p.word(i), ")" | "]" | "}")
    };
    let starts = matches!(p.token(0).map(|t| t.kind), Some(TokenKind::Word | TokenKind::Number | TokenKind::Text));
    let open = p.open().filter(|o| matches!(*o, "(" | "["))?;
    if !starts || !ends(-1) || matches!(p.word(0), "else" | "for" | "in" | "if" | "per" | "return") {
        return None;
    }
    let close = if open == "(" { ")" } else { "]" };
    let message = format!("expected `,`, `{close}` or an operator, found `{}`", p.word(0));
    let help = format!("to give several values, write `{}, {}`", p.word(-1), p.word(0));
    p.error("V0000", message, "missing `,` before this?").map(|e| e.help(help))
}

fn general(p: &Place) -> Diagnostic {
    let mut wanted = rule_names::expected(p.positives, p.open());
    // The grammar's plain signs are not among the rules that pest names.
    let declares = (1..=12).map(|i| p.word(-i)).take_while(|w| *w != "=").any(|w| matches!(w, "param" | "buffer"));
    if wanted == ["`=`"] && p.word(-1) == "]" && declares {
        wanted.push("`~`");
    }
    let found = match p.token(0) {
        Some(token) => format!("`{}`", shorten(&p.text[token.start..token.end])),
        None => "the end of the text".to_owned(),
    };
    let message = if wanted.is_empty() {
        format!("{found} does not belong here")
    } else {
        format!("expected {}, found {found}", rule_names::list(&wanted))
    };
    let label = match wanted.as_slice() {
        [] => "not expected here".to_owned(),
        [one] => format!("expected {one}"),
        _ => "not expected here".to_owned(),
    };
    let error = Diagnostic::error("V0000", message, p.span(), label);
    if p.open().is_none() && p.is(0, TokenKind::Word) {
        let near = ["fn", "block", "mask", "model", "from"].into_iter().find(|k| near(k, p.word(0)));
        return error.maybe_help(near.map(|k| format!("did you mean `{k}`?")));
    }
    error
}

/// Equal up to case, or one letter more, less or different.
fn near(a: &str, b: &str) -> bool {
    let b = b.to_lowercase();
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let front = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let back = a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count();
    let longer = a.len().max(b.len());
    a.len().abs_diff(b.len()) <= 1 && front + back + 1 >= longer
}

fn shorten(text: &str) -> String {
    let line = text.lines().next().unwrap_or("");
    if line.chars().count() <= 40 && line.len() == text.len() {
        return text.to_owned();
    }
    line.chars().take(37).chain("...".chars()).collect()
}
