//! Diagnostics as text with the source line, and as JSON.
//!
//! One frame for each file that a diagnostic names, in the order of its labels: the first label is the one to blame and
//! gives the frame's `file:line:column`. Control characters of the source never reach the terminal, and a line that is
//! longer than a page is cut around its label.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::diag::{Diagnostic, Label, Severity};
use crate::source::{FileId, Sources, Span};

/// Files whose text is an option of the command line rather than numbered lines.
pub const COMMAND_LINE: &str = "command line";
/// Columns of source shown at most.
const WIDTH: usize = 150;
/// Columns kept to the left of a label when a line is cut.
const LEFT: usize = 60;

/// A diagnostic as lines of text, each ended by a line break.
pub fn render(sources: &Sources, d: &Diagnostic, color: bool) -> String {
    let paint = Paint { color, strong: if d.severity == Severity::Error { "1;31" } else { "1;33" } };
    let severity = severity_word(d.severity);
    let head = paint.strong(&format!("{severity}[{}]", d.code));
    let mut out = format!("{head}: {}\n", paint.code("1", &indented(&d.message, 2)));
    let mut files: Vec<FileId> = vec![];
    for label in &d.labels {
        if !files.contains(&label.span.file) {
            files.push(label.span.file);
        }
    }
    for file in files {
        let labels: Vec<&Label> = d.labels.iter().filter(|l| l.span.file == file).collect();
        frame(&mut out, sources, file, &labels, &paint);
    }
    for (word, texts) in [("help", &d.help), ("note", &d.notes)] {
        for text in texts {
            let _ = writeln!(out, "  {}: {}", paint.code("1;36", word), indented(text, 10));
        }
    }
    out
}

/// All diagnostics in the form that `check --json` prints.
pub fn to_json(sources: &Sources, diagnostics: &[Diagnostic]) -> Value {
    let count = |severity| diagnostics.iter().filter(|d| d.severity == severity).count();
    let items: Vec<Value> = diagnostics.iter().map(|d| diagnostic_json(sources, d)).collect();
    json!({ "diagnostics": items, "errors": count(Severity::Error), "warnings": count(Severity::Warning) })
}

fn diagnostic_json(sources: &Sources, d: &Diagnostic) -> Value {
    let mut value = json!({
        "code": d.code,
        "severity": severity_word(d.severity),
        "message": d.message,
        "file": null, "line": null, "column": null, "end_line": null, "end_column": null,
        "labels": d.labels.iter().map(|l| label_json(sources, l)).collect::<Vec<_>>(),
        "help": d.help,
        "notes": d.notes,
    });
    if let Some(label) = d.labels.first() {
        place_json(sources, label.span, &mut value);
    }
    value
}

fn label_json(sources: &Sources, label: &Label) -> Value {
    let mut value = json!({ "text": label.text });
    place_json(sources, label.span, &mut value);
    value
}

/// Lines and columns count from 1 in characters; ends are exclusive.
fn place_json(sources: &Sources, span: Span, into: &mut Value) {
    let (line, column) = sources.line_column(span.file, span.start);
    let (end_line, end_column) = sources.line_column(span.file, span.end);
    into["file"] = json!(sources.get(span.file).path);
    into["line"] = json!(line);
    into["column"] = json!(column);
    into["end_line"] = json!(end_line);
    into["end_column"] = json!(end_column);
}

fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

/// Terminal colours, or nothing.
struct Paint {
    color: bool,
    strong: &'static str,
}

impl Paint {
    fn code(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn strong(&self, text: &str) -> String {
        self.code(self.strong, text)
    }

    fn faint(&self, text: &str) -> String {
        self.code("34", text)
    }
}

fn frame(out: &mut String, sources: &Sources, file: FileId, labels: &[&Label], paint: &Paint) {
    let source = sources.get(file);
    let numbered = source.path != COMMAND_LINE;
    let lines: Vec<usize> = labels.iter().map(|l| sources.line_column(file, l.span.start).0).collect();
    let width = if numbered { lines.iter().max().map_or(0, |n| n.to_string().len()) } else { 0 };
    let margin = " ".repeat(width);
    let place = match labels.first() {
        Some(label) if numbered => {
            let (line, column) = sources.line_column(file, label.span.start);
            format!("{}:{line}:{column}", source.path)
        }
        _ => source.path.clone(),
    };
    let _ = writeln!(out, "{margin} {}{}{}", paint.faint("╭─["), place, paint.faint("]"));
    let mut order: Vec<(usize, &Label)> = lines.iter().copied().zip(labels.iter().copied()).collect();
    order.sort_by_key(|(line, label)| (*line, label.span.start));
    let mut last = None;
    for (line, label) in order {
        if last != Some(line) {
            if last.is_some_and(|l: usize| line > l + 1) {
                let _ = writeln!(out, "{margin} {}", paint.faint("⋮"));
            }
            let number = if numbered { format!("{line:>width$}") } else { String::new() };
            let text = excerpt(&source.text, line_start(&source.text, label.span.start), label.span);
            let _ = writeln!(out, "{number} {} {}", paint.faint("│"), text.text.trim_end());
            last = Some(line);
        }
        pointer(out, &source.text, label, &margin, paint);
    }
    let _ = writeln!(out, "{margin} {}", paint.faint("╰────"));
}

/// The line under the source line, and the label's text under that.
fn pointer(out: &mut String, source: &str, label: &Label, margin: &str, paint: &Paint) {
    let shown = excerpt(source, line_start(source, label.span.start), label.span);
    let (pad, length) = (" ".repeat(shown.start), shown.length.max(1));
    let dot = paint.faint("·");
    if label.text.is_empty() {
        let _ = writeln!(out, "{margin} {dot} {pad}{}", paint.strong(&"─".repeat(length)));
        return;
    }
    let left = (length - 1) / 2;
    let line = format!("{}┬{}", "─".repeat(left), "─".repeat(length - 1 - left));
    let _ = writeln!(out, "{margin} {dot} {pad}{}", paint.strong(&line));
    let mut rows = label.text.lines();
    let first = rows.next().unwrap_or("");
    let _ = writeln!(out, "{margin} {dot} {pad}{}{}", " ".repeat(left), paint.strong(&format!("╰── {first}")));
    for row in rows {
        let _ = writeln!(out, "{margin} {dot} {pad}{}    {}", " ".repeat(left), paint.strong(row));
    }
}

/// A source line as shown, and where a span lies in it, in columns.
struct Excerpt {
    text: String,
    start: usize,
    length: usize,
}

fn line_start(source: &str, byte: u32) -> usize {
    source[..byte as usize].rfind('\n').map_or(0, |i| i + 1)
}

/// The line from `from`, tabs and control characters replaced, cut around the span if it is long.
fn excerpt(source: &str, from: usize, span: Span) -> Excerpt {
    let to = source[from..].find('\n').map_or(source.len(), |i| from + i);
    let (mut start, mut end) = (0, 0);
    let mut column = 0;
    let mut cells: Vec<(char, usize)> = vec![];
    for (i, letter) in source[from..to].char_indices() {
        let byte = from + i;
        if byte <= span.start as usize {
            start = column;
        }
        let shown = match letter {
            '\t' => vec![(' ', 1); 4 - column % 4],
            '\r' => vec![],
            c if c.is_control() || is_format(c) => vec![('\u{fffd}', 1)],
            c => vec![(c, width(c))],
        };
        column += shown.iter().map(|c| c.1).sum::<usize>();
        cells.extend(shown);
        if byte < span.end as usize {
            end = column;
        }
    }
    if span.start as usize >= to {
        start = column;
    }
    let length = end.saturating_sub(start);
    let whole = column <= WIDTH;
    let first = if whole { 0 } else { start.saturating_sub(LEFT) };
    let mut text = String::new();
    let mut column = 0;
    for (letter, width) in cells {
        if column >= first && (whole || column + width <= first + WIDTH) {
            text.push(letter);
        }
        column += width;
    }
    if first > 0 {
        text.insert(0, '…');
        start = start - first + 1;
    }
    if column > first + WIDTH {
        text.push('…');
    }
    Excerpt { text, start, length: length.min(WIDTH.saturating_sub(start).max(1)) }
}

/// Marks that change the direction of text or have no width.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Terminal columns of a character: East Asian wide forms take two, combining marks none.
fn width(c: char) -> usize {
    match c as u32 {
        0x300..=0x36f => 0,
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe4f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Later lines moved in, so that a message of several lines stays one block.
fn indented(text: &str, columns: usize) -> String {
    text.replace('\n', &format!("\n{}", " ".repeat(columns)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(sources: &Sources, file: FileId, part: &str) -> Span {
        let start = sources.get(file).text.find(part).unwrap() as u32;
        Span { file, start, end: start + part.len() as u32 }
    }

    #[test]
    fn one_frame_has_line_pointer_and_help() {
        let mut sources = Sources::default();
        let file = sources.add("tiny.vjepa", "model m = a with {\n  encoder = vit(tokens, dim: 192, depth = 4)\n}\n");
        let at = span(&sources, file, "dim: 192");
        let error = Diagnostic::error("V0001", "settings are passed with `=`, not `:`", at, "write `dim = 192`");
        let shown = render(&sources, &error.help("`=` gives a value"), false);
        let expected = "\
error[V0001]: settings are passed with `=`, not `:`
  ╭─[tiny.vjepa:2:25]
2 │   encoder = vit(tokens, dim: 192, depth = 4)
  ·                         ───┬────
  ·                            ╰── write `dim = 192`
  ╰────
  help: `=` gives a value
";
        assert_eq!(shown, expected);
    }

    #[test]
    fn several_files_and_lines_get_frames_of_their_own() {
        let mut sources = Sources::default();
        let set = sources.add(COMMAND_LINE, "--set encoder.depth=12.5");
        let text = "block a\nx\nx\nx\nx\nx\nx\nx\nx\n  depth = 24, heads = 16\n";
        let file = sources.add("vitl.vjepa", text);
        let error = Diagnostic::error("V0104", "`depth` must be whole", span(&sources, set, "12.5"), "not whole")
            .label(span(&sources, file, "depth = 24"), "24 in the file")
            .label(span(&sources, file, "heads = 16"), "")
            .label(span(&sources, file, "block"), "one\ntwo")
            .note("first\nsecond");
        let expected = "\
error[V0104]: `depth` must be whole
 ╭─[command line]
 │ --set encoder.depth=12.5
 ·                     ─┬──
 ·                      ╰── not whole
 ╰────
   ╭─[vitl.vjepa:10:3]
 1 │ block a
   · ──┬──
   ·   ╰── one
   ·       two
   ⋮
10 │   depth = 24, heads = 16
   ·   ────┬─────
   ·       ╰── 24 in the file
   ·               ──────────
   ╰────
  note: first
          second
";
        assert_eq!(render(&sources, &error, false), expected);
    }

    #[test]
    fn hostile_lines_are_cut_and_made_harmless() {
        let mut sources = Sources::default();
        let text = format!("{}\x1b[2J\t中bad{}", "a".repeat(5000), "b".repeat(5000));
        let file = sources.add("x.vjepa", text);
        let shown = render(&sources, &Diagnostic::error("V0000", "m", span(&sources, file, "bad"), "here"), true);
        assert!(!shown.contains("\x1b[2J"));
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[2].chars().count() < 200 && lines[2].contains("bad"));
    }

    #[test]
    fn ends_of_text_and_empty_files_can_be_blamed() {
        let mut sources = Sources::default();
        let file = sources.add("x.vjepa", "");
        let shown = render(&sources, &Diagnostic::error("V0000", "m", Span { file, start: 0, end: 0 }, "here"), false);
        assert!(shown.contains("[x.vjepa:1:1]") && shown.contains("┬"));
    }

    #[test]
    fn json_counts_from_one_in_characters() {
        let mut sources = Sources::default();
        let file = sources.add("x.vjepa", "é\nüx = 1\n");
        let error = Diagnostic::error("V0000", "m", span(&sources, file, "x = 1"), "here").help("h");
        let value = to_json(&sources, &[error]);
        let first = &value["diagnostics"][0];
        assert_eq!((&first["line"], &first["column"]), (&json!(2), &json!(2)));
        assert_eq!((&first["end_line"], &first["end_column"]), (&json!(2), &json!(7)));
        assert_eq!((&value["errors"], &value["warnings"]), (&json!(1), &json!(0)));
        assert_eq!(first["labels"][0]["text"], json!("here"));
    }
}
