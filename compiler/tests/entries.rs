//! Every entry of every model that the repository ships: it verifies, its text reads back, and drawing masks and
//! weights on the interpreter gives what the tables say.

use std::path::{Path, PathBuf};

use vjepac::driver::{Request, compile};
use vjepac::elaborate::Override;
use vjepac::ir::eval::{Env, eval};
use vjepac::ir::graph::Segments;
use vjepac::ir::parse_text::parse_module;
use vjepac::ir::print::print_module;
use vjepac::ir::verify::verify;
use vjepac::program::{Entry, Program};
use vjepac::source::{Loader, Sources};

/// Every structure is there in two narrow blocks; the full depths take a debug build a minute.
const SMALL: [(&str, &str); 6] = [
    ("encoder.depth", "2"),
    ("predictor.depth", "2"),
    ("encoder.dim", "96"),
    ("predictor.dim", "48"),
    ("encoder.heads", "4"),
    ("predictor.heads", "4"),
];

struct Disk;

impl Loader for Disk {
    fn load(&self, path: &str) -> Result<String, String> {
        std::fs::read_to_string(path).map_err(|e| e.to_string())
    }
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models")
}

/// Names of the models of a file.
fn names(text: &str) -> Vec<String> {
    let name = |l: &str| l.strip_prefix("model ")?.split([' ', '=', '{', '(']).next().map(String::from);
    text.lines().filter_map(name).collect()
}

fn program(path: &Path, model: &str) -> Program {
    let mut sources = Sources::default();
    let text = std::fs::read_to_string(path).unwrap();
    let file = sources.add(path.to_string_lossy(), text);
    let set = |(path, value): (&str, &str)| Override { path: path.into(), value: value.into() };
    // A probe has no predictor.
    let mut last = String::new();
    for part in ["", "encoder."] {
        let overrides: Vec<Override> = SMALL.into_iter().filter(|s| s.0.starts_with(part)).map(set).collect();
        let request = Request { file, model: Some(model), overrides: &overrides, taps: true };
        match compile(&mut sources, &Disk, &request) {
            Ok((program, _)) => return program,
            Err(errors) => last = errors[0].message.clone(),
        }
    }
    panic!("{model}: {last}")
}

#[test]
fn entries_of_shipped_models() {
    let mut files: Vec<PathBuf> = std::fs::read_dir(models()).unwrap().map(|f| f.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "vjepa"));
    files.sort();
    let mut seen = 0;
    for path in files {
        for name in names(&std::fs::read_to_string(&path).unwrap()) {
            let program = program(&path, &name);
            for entry in Entry::ALL {
                let graph = program.entry(entry);
                verify(&program.tables, graph).unwrap_or_else(|e| panic!("{name}, {}: {e}", entry.name()));
                let text = print_module(&program.tables, graph);
                let (tables, again) = parse_module(&text).unwrap();
                assert_eq!(tables, program.tables);
                assert!(text == print_module(&tables, &again), "{name}, {}: text does not read back", entry.name());
            }
            runs(&name, &program);
            seen += 1;
        }
    }
    assert!(seen >= 5, "found {seen} models");
}

/// Draws masks for three clips, and weights.
fn runs(name: &str, program: &Program) {
    let mut env = Env {
        segments: Segments { clips: 3, sets: vec![] },
        scalars: vec![0.5; program.tables.scalars.len()],
        seed: 1,
        step: 1,
        ..Env::default()
    };
    let masks = eval(&program.tables, program.entry(Entry::Draw), &mut env).unwrap();
    for (spec, outputs) in program.tables.masks.iter().zip(&program.masks) {
        let mask = &masks.iter().find(|(n, _)| *n == outputs.target).expect("an output of the draw entry").1;
        for block in &mask.blocks {
            assert_eq!(block.len(), spec.tokens * spec.target_extra.iter().product::<usize>(), "{name}: {}", spec.name);
            assert!(block.iter().all(|x| *x == 0.0 || *x == 1.0));
        }
    }
    eval(&program.tables, program.entry(Entry::Init), &mut env).unwrap();
    for (slot, content) in program.tables.slots.iter().zip(&env.slots).filter(|(_, c)| !c.is_empty()) {
        assert_eq!(content.len(), slot.shape.iter().product::<usize>(), "{name}: {}", slot.key);
        assert!(content.iter().all(|x| x.is_finite()), "{name}: {}", slot.key);
    }
}
