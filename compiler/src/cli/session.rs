//! One invocation: the file, the overrides, and the sources that diagnostics point into.

use std::io::{IsTerminal, Write};
use std::path::Path;

use serde_json::Value;
use vjepac::diag::{Diagnostic, Severity};
use vjepac::driver::{self, Request};
use vjepac::elaborate::{self, Override};
use vjepac::model::Model;
use vjepac::render::render;
use vjepac::source::{FileId, Loader, Sources};

/// Why a command did not do its work.
pub enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// A file cannot be read or written.
    File(String),
    /// The source is wrong.
    Source(Vec<Diagnostic>),
}

/// Imported files from the disk, relative to the working directory.
struct Disk;

impl Loader for Disk {
    fn load(&self, path: &str) -> Result<String, String> {
        read(Path::new(path))
    }
}

/// A file and what was asked of it.
pub struct Session {
    /// Every file read so far.
    pub sources: Sources,
    /// The file named on the command line.
    pub file: FileId,
    /// Its model, if one was named.
    pub wanted: Option<String>,
    /// `--set`, in order.
    pub overrides: Vec<Override>,
}

impl Session {
    /// Reads `FILE[:MODEL]`.
    pub fn open(target: &str, set: &[String]) -> Result<Session, Failure> {
        let (path, model) = split_target(target);
        let text = read(Path::new(path)).map_err(|why| Failure::File(format!("`{path}` cannot be read: {why}")))?;
        let mut sources = Sources::default();
        let file = sources.add(path, text);
        let overrides = set.iter().map(|s| override_of(s)).collect::<Result<_, _>>().map_err(Failure::Usage)?;
        Ok(Session { sources, file, wanted: model.map(str::to_owned), overrides })
    }

    /// Names of the models to look at: the one that was named, or all.
    pub fn models(&mut self) -> Result<Vec<String>, Failure> {
        let names = elaborate::models(&mut self.sources, &Disk, self.file).map_err(Failure::Source)?;
        match &self.wanted {
            None => Ok(names),
            Some(name) if names.contains(name) => Ok(vec![name.clone()]),
            Some(name) => {
                let path = &self.sources.get(self.file).path;
                Err(Failure::Usage(format!("`{path}` has no model called `{name}`; {}", list_models(&names))))
            }
        }
    }

    /// The one model that a command needs.
    pub fn one_model(&mut self) -> Result<String, Failure> {
        let mut names = self.models()?;
        if names.len() == 1 {
            return Ok(names.remove(0));
        }
        let path = &self.sources.get(self.file).path;
        let choose = match names.first() {
            Some(first) => format!("name one, as in `{path}:{first}`; {}", list_models(&names)),
            None => format!("`{path}` defines no model"),
        };
        Err(Failure::Usage(choose))
    }

    /// A checked model and its warnings, or everything that is wrong with it.
    pub fn check(&mut self, model: &str) -> Result<(Model, Vec<Diagnostic>), Vec<Diagnostic>> {
        let Session { sources, file, overrides, .. } = self;
        driver::check(sources, &Disk, &Request { file: *file, model: Some(model), overrides, taps: false })
    }

    /// The one model that a command needs, checked; warnings are reported.
    pub fn checked(&mut self) -> Result<Model, Failure> {
        let name = self.one_model()?;
        let (model, warnings) = self.check(&name).map_err(Failure::Source)?;
        self.report(&warnings);
        Ok(model)
    }

    /// The program of the one model, and its warnings.
    pub fn compile(&mut self, taps: bool) -> Result<(vjepac::program::Program, Vec<Diagnostic>), Failure> {
        let name = self.one_model()?;
        let Session { sources, file, overrides, .. } = self;
        let request = Request { file: *file, model: Some(&name), overrides, taps };
        driver::compile(sources, &Disk, &request).map_err(Failure::Source)
    }

    /// Shows diagnostics on standard error, with a count of them.
    pub fn report(&self, found: &[Diagnostic]) {
        let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let mut out = String::new();
        for d in found {
            out += &render(&self.sources, d, color);
            out.push('\n');
        }
        out += &summary(found);
        let _ = std::io::stderr().write_all(out.as_bytes());
    }
}

/// `3 errors, 1 warning` as a line, or nothing.
fn summary(found: &[Diagnostic]) -> String {
    let count = |severity, word: &str| {
        let n = found.iter().filter(|d| d.severity == severity).count();
        (n > 0).then(|| format!("{n} {word}{}", if n == 1 { "" } else { "s" }))
    };
    let parts: Vec<String> =
        [count(Severity::Error, "error"), count(Severity::Warning, "warning")].into_iter().flatten().collect();
    if parts.is_empty() { String::new() } else { format!("{}\n", parts.join(", ")) }
}

/// Text on standard output; a reader that has gone away is no error.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A JSON document with a line break.
pub fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// `FILE:MODEL`; a colon that belongs to the path stays there.
fn split_target(target: &str) -> (&str, Option<&str>) {
    let is_name = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match target.rsplit_once(':') {
        Some((path, model)) if is_name(model) && !path.is_empty() && !Path::new(target).exists() => (path, Some(model)),
        _ => (target, None),
    }
}

fn override_of(text: &str) -> Result<Override, String> {
    match text.split_once('=') {
        Some((path, value)) if !path.trim().is_empty() && !value.trim().is_empty() => {
            Ok(Override { path: path.trim().to_owned(), value: value.trim().to_owned() })
        }
        _ => Err(format!("`--set {text}` needs the form PATH=EXPR, as in `--set encoder.depth=12`")),
    }
}

fn read(path: &Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|e| e.to_string().to_lowercase())?;
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())
}

fn list_models(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|n| format!("`{n}`")).collect();
    format!("its models are {}", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_and_overrides_are_taken_apart() {
        assert_eq!(split_target("a/b.vjepa"), ("a/b.vjepa", None));
        assert_eq!(split_target("a/b.vjepa:tiny"), ("a/b.vjepa", Some("tiny")));
        assert_eq!(split_target("c:/b.vjepa"), ("c:/b.vjepa", None));
        let o = override_of("masks.*.area = 15%").unwrap();
        assert_eq!((o.path.as_str(), o.value.as_str()), ("masks.*.area", "15%"));
        assert!(override_of("depth").is_err() && override_of("=3").is_err() && override_of("a=").is_err());
    }
}
