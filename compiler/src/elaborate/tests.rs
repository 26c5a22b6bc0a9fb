//! Whole files: the models that are shipped, the corpus, and typical mistakes.

mod derived;
mod holes;
mod mistakes;
mod models;
mod rules;
mod tapped;
mod variants;

use std::path::Path;

use super::*;

/// Reads files below the repository's root.
struct Disk;

impl Loader for Disk {
    fn load(&self, path: &str) -> Result<String, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        std::fs::read_to_string(root.join(path)).map_err(|e| e.to_string())
    }
}

/// Diagnostics in few words: code, message, and the text that is blamed.
fn brief(sources: &Sources, errors: &[Diagnostic]) -> String {
    let line = |d: &Diagnostic| {
        let place = d.labels.first().map(|l| sources.text(l.span).lines().next().unwrap_or("").to_string());
        format!("{} {} | {}", d.code, d.message, place.unwrap_or_default())
    };
    errors.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Elaborates text as if it stood in `models/`, so that `./vjepa-vitl16` can be imported.
fn text(source: &str, model: Option<&str>, sets: &[(&str, &str)]) -> Result<Model, String> {
    let mut sources = Sources::default();
    let file = sources.add("models/test.vjepa", source);
    let overrides: Vec<Override> =
        sets.iter().map(|(p, v)| Override { path: (*p).into(), value: (*v).into() }).collect();
    elaborate(&mut sources, &Disk, file, model, &overrides).map_err(|e| brief(&sources, &e))
}

/// Elaborates a file of the repository.
fn file(path: &str, model: Option<&str>, sets: &[(&str, &str)]) -> Result<Model, String> {
    let mut sources = Sources::default();
    let file = sources.add(path, Disk.load(path)?);
    let overrides: Vec<Override> =
        sets.iter().map(|(p, v)| Override { path: (*p).into(), value: (*v).into() }).collect();
    elaborate(&mut sources, &Disk, file, model, &overrides).map_err(|e| brief(&sources, &e))
}

/// A model that must elaborate.
fn good(path: &str, model: &str) -> Model {
    file(path, Some(model), &[]).unwrap_or_else(|e| panic!("{path}:{model}\n{e}"))
}

const VITL16: &str = "models/vjepa-vitl16.vjepa";

/// What training settings every small model needs.
const TRAIN: &str =
    "train { data = [\"d\"], batch = 4, group = 2, steps = 10, optimizer = adamw(lr = 1e-3), precision = \"f32\" }";

/// A small model around some lines: an 8 x 8 image in 4 x 4 patches, one block `encoder`.
fn small(lines: &str) -> Result<Model, String> {
    let source = format!(
        "from std.nn import linear, normalize
         from std.image import vit2d
         from std.masks import ijepa
         model m {{
           image = image(size = 8 px)
           tokens = (rows: image.size / 2 px, cols: image.size / 2 px)
           encoder = vit2d(tokens, patch = 2 px, dim = 8, depth = 1, heads = 2)
           {lines}
           {TRAIN}
         }}"
    );
    text(&source, None, &[])
}

/// The error of a small model.
fn wrong(lines: &str) -> String {
    match small(lines) {
        Ok(_) => panic!("`{lines}` was accepted"),
        Err(e) => e,
    }
}
