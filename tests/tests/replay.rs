//! Recorded steps of PyTorch, on both lowerings: several groups and masks, and groups of one.
//!
//! `golden/vjepa_torch.py` made the recordings and says which model each belongs to.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vjepa_run::replay::{Request, replay};
use vjepac::driver;
use vjepac::elaborate::Override;
use vjepac::lower::Backend;
use vjepac::program::Program;
use vjepac::source::{Loader, Sources};

const MODEL: &str = "models/vjepa-vitl16.vjepa";
const THIRD: &str = "multiblock(tokens, blocks = 3, area = 30%, aspect = 0.75..1.5)";

/// Of both recordings.
const SHARED: [(&str, &str); 13] = [
    ("clip.frames", "6"),
    ("clip.size", "10 px"),
    ("encoder.patch", "2 px"),
    ("encoder.dim", "20"),
    ("encoder.depth", "2"),
    ("encoder.heads", "2"),
    ("predictor.dim", "14"),
    ("predictor.depth", "1"),
    ("train.precision", "\"f32\""),
    ("train.warmup", "2"),
    ("train.horizon", "5"),
    ("train.clip_grad", "0.5"),
    ("train.seed", "0"),
];

struct Disk(PathBuf);

impl Loader for Disk {
    fn load(&self, path: &str) -> Result<String, String> {
        std::fs::read_to_string(self.0.join(path)).map_err(|e| e.to_string())
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn compile(own: &[(&str, &str)]) -> Program {
    let loader = Disk(root());
    let mut sources = Sources::default();
    let file = sources.add(MODEL, loader.load(MODEL).unwrap());
    let set = |(path, value): &(&str, &str)| Override { path: (*path).into(), value: (*value).into() };
    let overrides: Vec<Override> = SHARED.iter().chain(own).map(set).collect();
    let request = driver::Request { file, model: Some("vjepa_vitl16"), overrides: &overrides, taps: true };
    let (program, _) = driver::compile(&mut sources, &loader, &request).unwrap_or_else(|e| panic!("{e:#?}"));
    program
}

fn check(golden: &str, own: &[(&str, &str)], backend: Backend, steps: usize) {
    let golden = root().join("tests/golden").join(golden);
    let request = Request { golden, backend, threads: 2, steps: None };
    let found = replay(Arc::new(compile(own)), &request, |step| println!("{}", step.text())).unwrap();
    let failures: Vec<String> = found
        .steps
        .iter()
        .flat_map(|s| s.failures().into_iter().map(move |f| format!("step {}: {f}", s.step)))
        .collect();
    assert!(found.ok && failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(found.steps.len(), steps);
    let activations = found.steps[0].tensors.iter().filter(|t| t.kind.bound().is_some()).count();
    assert!(activations > 30, "activations and gradients are compared, found {activations}");
}

fn groups(backend: Backend, steps: usize) {
    let masks = format!("[short, long, {THIRD}]");
    let own = [("masks", masks.as_str()), ("train.batch", "5"), ("train.group", "2"), ("train.steps", "4")];
    check("groups", &own, backend, steps);
}

fn single(backend: Backend, steps: usize) {
    let masks = format!("[{THIRD}]");
    let own = [("masks", masks.as_str()), ("train.batch", "3"), ("train.group", "1"), ("train.steps", "3")];
    check("single", &own, backend, steps);
}

#[test]
fn several_groups_on_cpu() {
    groups(Backend::Cpu, 4);
}

/// The reference replays the steps that have activations.
#[test]
fn several_groups_on_reference() {
    groups(Backend::Reference, 2);
}

#[test]
fn groups_of_one_on_cpu() {
    single(Backend::Cpu, 3);
}

#[test]
fn groups_of_one_on_reference() {
    single(Backend::Reference, 1);
}
