//! Whole files: the models that are shipped, the corpus, and typical mistakes.

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

fn show(sources: &Sources, errors: &[Diagnostic]) -> String {
    let mut out = String::new();
    for d in errors {
        out += &format!("error[{}]: {}\n", d.code, d.message);
        for l in &d.labels {
            let (line, column) = sources.line_column(l.span.file, l.span.start);
            let text = sources.text(l.span);
            out += &format!("  {}:{line}:{column} `{}` {}\n", sources.get(l.span.file).path, text.lines().next().unwrap_or(""), l.text);
        }
        d.help.iter().for_each(|h| out += &format!("  help: {h}\n"));
        d.notes.iter().for_each(|n| out += &format!("  note: {n}\n"));
    }
    out
}

fn try_model(path: &str, model: Option<&str>, sets: &[(&str, &str)]) -> Result<Model, String> {
    let mut sources = Sources::default();
    let text = Disk.load(path)?;
    let file = sources.add(path, text);
    let overrides: Vec<Override> = sets.iter().map(|(p, v)| Override { path: p.to_string(), value: v.to_string() }).collect();
    elaborate(&mut sources, &Disk, file, model, &overrides).map_err(|e| show(&sources, &e))
}

fn model(path: &str, name: &str) -> Model {
    try_model(path, Some(name), &[]).unwrap_or_else(|e| panic!("{path}:{name}\n{e}"))
}

#[test]
fn debug_vitl16() {
    let m = model("models/vjepa-vitl16.vjepa", "vjepa_vitl16");
    eprintln!("{} nodes, {} axes, {} weights", m.nodes.len(), m.axes.len(), m.weights.len());
    for (i, n) in m.nodes.iter().enumerate().take(120) {
        eprintln!("{i} {:?} {:?} {} {}", n.op, n.inputs.iter().map(|i| i.0).collect::<Vec<_>>(), m.show_axes(n.outer, &n.axes), n.place);
    }
}

#[test]
fn debug_errors() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/errors");
    let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    for n in names {
        match try_model(&format!("tests/corpus/errors/{n}"), None, &[]) {
            Ok(_) => eprintln!("== {n}: NO ERROR"),
            Err(e) => eprintln!("== {n}\n{e}"),
        }
    }
}
#[test]
fn debug_all() {
    for (f, ms) in [("models/tiny.vjepa", vec!["tiny"]), ("models/ijepa.vjepa", vec!["ijepa_vith14"]), ("models/masking.vjepa", vec!["base","random_tube","causal_6","causal_12","moving"]), ("models/pixels.vjepa", vec!["pixels","videomae"]), ("tests/corpus/probe-k400.vjepa", vec!["k400_probe","k400_average","k400_finetune"]), ("tests/corpus/rope-swiglu.vjepa", vec!["rope_swiglu"])] {
        for n in ms {
            match try_model(f, Some(n), &[]) {
                Ok(m) => eprintln!("== {n}: {} nodes {} weights networks {:?} masks {:?} sets {:?} taps {:?}", m.nodes.len(), m.weights.len(), m.networks, m.masks.iter().map(|m| &m.name).collect::<Vec<_>>(), m.sets, m.taps.iter().map(|t| (&t.name, t.node)).collect::<Vec<_>>()),
                Err(e) => eprintln!("== {n}\n{e}"),
            }
        }
    }
}
