//! Source text and places in it.
//!
//! A `Sources` holds every file of one compilation; a `Span` names a byte range in one of them. The library reads no
//! files: whoever calls it supplies text through a [`Loader`].

use std::sync::Arc;

/// Which file of a [`Sources`] a span lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// A byte range `start..end` in one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The smallest span that holds both; `self`'s file wins.
    pub fn to(self, other: Span) -> Span {
        Span { file: self.file, start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// One file: how the user names it, and its text.
#[derive(Clone, Debug)]
pub struct Source {
    /// Path as shown in messages, for example `models/tiny.vjepa`, `std/nn.vjepa` or `command line`.
    pub path: String,
    /// The text, without a byte-order mark.
    pub text: Arc<str>,
}

/// All files of one compilation, in the order they were first needed.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<Source>,
}

impl Sources {
    /// Adds a file and returns its id. A byte-order mark is dropped.
    pub fn add(&mut self, path: impl Into<String>, text: impl AsRef<str>) -> FileId {
        let text = text.as_ref();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        self.files.push(Source { path: path.into(), text: text.into() });
        FileId(self.files.len() as u32 - 1)
    }

    /// The file with this id.
    pub fn get(&self, id: FileId) -> &Source {
        &self.files[id.0 as usize]
    }

    /// The id of the file with this path, if it was added.
    pub fn find(&self, path: &str) -> Option<FileId> {
        self.files.iter().position(|f| f.path == path).map(|i| FileId(i as u32))
    }

    /// The text a span covers.
    pub fn text(&self, span: Span) -> &str {
        &self.get(span.file).text[span.start as usize..span.end as usize]
    }

    /// Line and column of a byte, both from 1, in characters.
    pub fn line_column(&self, file: FileId, byte: u32) -> (usize, usize) {
        let before = &self.get(file).text[..byte as usize];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (line, column)
    }
}

/// Where imported files come from: the command line reads the disk, tests hold text in memory.
pub trait Loader {
    /// The text of the file at `path` (relative imports already joined and normalised), or why it cannot be had.
    fn load(&self, path: &str) -> Result<String, String>;
}
