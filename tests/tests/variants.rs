//! The variants of `examples/variants`: each compiles and trains five steps on the example clips, shrunk by `--set`, and
//! the gradient of its loss agrees with finite differences of the interpreter, in f64.

use std::path::{Path, PathBuf};

use vjepa_run::masks::MaskSampler;
use vjepa_run::train::schedule::scalars;
use vjepa_tests::{scratch, vjepa_run, vjepac};
use vjepac::ir::eval::{Env, eval};
use vjepac::ir::graph::{Graph, InputSpec, SlotKind};
use vjepac::program::{Entry, Program};

/// How far all weights together are moved. Central differences of f64 then err by about 1e-7 of the slope, and hardly
/// any of the kinks of an absolute value lies within it.
const STEP: f64 = 1e-6;
/// Room for the kinks that do, and for slopes that nearly cancel along a random direction.
const TOLERANCE: f64 = 1e-4;

/// Clips of a step.
const CLIPS: usize = 2;

/// What every variant is shrunk by: 2 x 4 x 4 tokens, two heads.
const SHRINK: &str = "--set clip.frames=4 --set clip.size=32 --set encoder.patch=8 --set encoder.dim=24 \
                      --set encoder.heads=2 --set train.batch=2 --set train.steps=5 --set train.precision='\"f32\"' \
                      --set train.data='[\"clips\"]'";
/// What variants of the V-JEPA model are shrunk by beside that.
const JEPA: &str = "--set predictor.dim=12 --set predictor.depth=1 --set train.group=2 --set train.warmup=2";
/// What variants of the probe are shrunk by beside that.
const PROBE: &str = "--set head.pooler.heads=2 --set label.classes=7 --set train.epoch=1";

/// One model of `examples/variants`.
struct Variant {
    /// `file:model`.
    model: &'static str,
    /// Further settings.
    sets: String,
}

fn jepa(model: &'static str, sets: &str) -> Variant {
    Variant { model, sets: format!("{SHRINK} {JEPA} {sets}") }
}

fn probe(model: &'static str, sets: &str) -> Variant {
    Variant { model, sets: format!("{SHRINK} {PROBE} {sets}") }
}

impl Variant {
    fn compile(&self, dir: &Path) -> PathBuf {
        let out = dir.join("variant.vjc");
        let (file, name) = self.model.split_once(':').unwrap();
        let line = format!("compile examples/variants/{file}.vjepa:{name} {} -o {}", self.sets, out.display());
        vjepac(&line).succeeded();
        out
    }

    /// Five steps; `frozen` is a field whose weights come from a model that has just begun.
    fn trains(&self, frozen: Option<&str>) {
        let dir = scratch();
        let program = self.compile(dir.path());
        let weights =
            frozen.map_or_else(String::new, |field| format!("--weights {field}={}", begun(dir.path(), &self.sets)));
        let out = dir.path().join("run");
        let list = "examples/clips/clips.csv";
        let line = format!("train {} --data {list} --out {} --steps 5 {weights}", program.display(), out.display());
        vjepa_run(&line).succeeded();
        let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        let losses: Vec<f64> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"].as_f64().unwrap())
            .collect();
        assert_eq!(losses.len(), 5, "{text}");
        assert!(losses.iter().all(|l| l.is_finite()), "{losses:?}");
        assert!(losses.windows(2).all(|w| w[0] != w[1]), "nothing is learnt: {losses:?}");
    }

    fn has_the_right_gradient(&self) {
        let dir = scratch();
        let program = Program::read(&std::fs::read(self.compile(dir.path())).unwrap()).unwrap();
        let mut world = World::new(&program);
        let gradients = world.gradients();
        assert!(gradients.iter().any(|(_, g)| g.iter().any(|x| *x != 0.0)), "the loss has no gradient");
        for direction in 0..3 {
            let mut numbers = Numbers(100 + direction);
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
            let mut ways: Vec<Vec<f64>> =
                gradients.iter().map(|(_, g)| g.iter().map(|_| numbers.next()).collect()).collect();
            let length = ways.iter().map(|w| dot(w, w)).sum::<f64>().sqrt();
            ways.iter_mut().flatten().for_each(|w| *w /= length);
            let expected: f64 = gradients.iter().zip(&ways).map(|((_, g), w)| dot(g, w)).sum();
            let moved = |sign: f64| {
                let mut env = world.env.clone();
                for ((slot, _), way) in gradients.iter().zip(&ways) {
                    env.slots[*slot].iter_mut().zip(way).for_each(|(x, w)| *x += sign * STEP * w);
                }
                loss(&program, &world.loss, &mut env)
            };
            let found = (moved(1.0) - moved(-1.0)) / (2.0 * STEP);
            // What a direction gives on average.
            let weights = gradients.iter().map(|(_, g)| g.len()).sum::<usize>() as f64;
            let size = (gradients.iter().map(|(_, g)| dot(g, g)).sum::<f64>() / weights).sqrt();
            assert!(
                (found - expected).abs() <= TOLERANCE * expected.abs().max(size),
                "{}: direction {direction}: {found} by differences, {expected} by the gradient",
                self.model
            );
        }
    }
}

/// Weights of a target encoder at its start: `FILE:PREFIX`.
fn begun(dir: &Path, sets: &str) -> String {
    let (program, out) = (dir.join("begun.vjc"), dir.join("begun"));
    let only_probes = ["head.", "label.", "train.epoch", "'encoder.tokens"];
    let keep = |word: &str| !only_probes.iter().any(|p| word.starts_with(p));
    let sets: Vec<&str> = sets.split("--set ").map(str::trim).filter(|w| !w.is_empty() && keep(w)).collect();
    let sets = sets.iter().map(|s| format!("--set {s} ")).collect::<String>();
    vjepac(&format!("compile models/vjepa-vitl16.vjepa {sets} {JEPA} -o {}", program.display())).succeeded();
    let line = format!("train {} --data examples/clips --out {} --steps 1", program.display(), out.display());
    vjepa_run(&line).succeeded();
    format!("{}:target_encoder.", out.join("checkpoints/00000001/model.safetensors").display())
}

/// Numbers between -1 and 1, the same ones every time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// A program with everything that a step needs.
struct World<'a> {
    program: &'a Program,
    env: Env,
    /// The part of `grads` that computes the loss.
    loss: Graph,
}

impl<'a> World<'a> {
    fn new(program: &'a Program) -> World<'a> {
        let run = program.run.as_ref().unwrap();
        let mut env = Env { seed: run.seed, step: 1, ..Env::default() };
        eval(&program.tables, program.entry(Entry::Init), &mut env).unwrap();
        env.segments = MaskSampler::draw(program, run.seed, 1, 0, CLIPS).unwrap();
        env.segments.clips = CLIPS;
        env.scalars = scalars(program, 1, 1.0).unwrap();
        let mut numbers = Numbers(7);
        env.inputs = program.tables.inputs.iter().map(|spec| input(spec, &mut numbers)).collect();
        env.slots.resize(program.tables.slots.len(), vec![]);
        for (i, slot) in program.tables.slots.iter().enumerate() {
            let start = match slot.kind {
                SlotKind::Average { of, .. } => env.slots[of.0 as usize].clone(),
                SlotKind::Trained { .. } | SlotKind::Frozen | SlotKind::Unused | SlotKind::Buffer => {
                    env.slots[i].clone()
                }
                SlotKind::Moment { .. } | SlotKind::Gradient { .. } => vec![0.0; slot.shape.iter().product()],
            };
            // Weights that start at zero have special slopes, and an average that equals what it follows too.
            let shaken = matches!(slot.kind, SlotKind::Trained { .. } | SlotKind::Average { .. } | SlotKind::Frozen);
            let shake = if shaken { 0.1 } else { 0.0 };
            env.slots[i] = start.into_iter().map(|x| x + shake * numbers.next()).collect();
        }
        let full = program.entry(Entry::Grads);
        let output = full.outputs.iter().find(|(name, _)| name == "loss").unwrap().clone();
        let (mut needed, mut open) = (std::collections::BTreeSet::new(), vec![output.1.node]);
        while let Some(node) = open.pop() {
            if needed.insert(node) {
                open.extend(full.inputs(node).iter().map(|v| v.node));
            }
        }
        let mut loss = Graph { nodes: full.nodes.clone(), outputs: vec![output] };
        loss.nodes.retain_nodes(|_, node| needed.contains(&node));
        World { program, env, loss }
    }

    /// For each trained slot its gradient.
    fn gradients(&mut self) -> Vec<(usize, Vec<f64>)> {
        let mut env = self.env.clone();
        eval(&self.program.tables, self.program.entry(Entry::Grads), &mut env).unwrap();
        let slots = self.program.tables.slots.iter().enumerate();
        let of = |(i, slot): (usize, &vjepac::ir::graph::Slot)| match slot.kind {
            SlotKind::Gradient { of } => Some((of.0 as usize, env.slots[i].clone())),
            _ => None,
        };
        slots.filter_map(of).collect()
    }
}

fn input(spec: &InputSpec, numbers: &mut Numbers) -> Vec<f64> {
    match spec {
        InputSpec::Video(v) | InputSpec::Image(v) => {
            (0..CLIPS * v.frames * v.size * v.size * 3).map(|_| 2.0 * numbers.next()).collect()
        }
        InputSpec::Label { classes } => (0..CLIPS).map(|i| (i % classes) as f64).collect(),
    }
}

fn loss(program: &Program, graph: &Graph, env: &mut Env) -> f64 {
    eval(&program.tables, graph, env).unwrap()[0].1.blocks[0][0]
}

/// A module of two tests for each variant.
macro_rules! variants {
    ($($name:ident: $variant:expr, frozen $frozen:expr;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn trains_five_steps() {
                $variant.trains($frozen);
            }

            #[test]
            fn has_the_right_gradient() {
                $variant.has_the_right_gradient();
            }
        }
    )*};
}

variants! {
    causal: jepa("causal:causal", "--set encoder.depth=1"), frozen None;
    data2vec: jepa("data2vec:data2vec", "--set encoder.depth=8 --set masks.0.ratio=50%"), frozen None;
    divided_attention: probe("divided-attention:ts", "--set encoder.depth=1"), frozen None;
    four_layers: probe("taps:four_layers", "--set encoder.depth=24 --set 'encoder.tokens=(time: 2, rows: 4, cols: 4)'"), frozen Some("encoder");
    levels: jepa("levels:levels", "--set encoder.depth=4"), frozen None;
    registers: jepa("registers:registers", "--set encoder.depth=1"), frozen None;
    two_stream: jepa("two-stream:two_stream", "--set encoder.depth=1 --set flow.depth=1 --set flow.patch=8"), frozen None;
    v_jepa_2: jepa("vjepa2:vjepa2_vitl16", "--set encoder.depth=1 --set predictor.heads=2"), frozen None;
    v_jepa_2_1: jepa("vjepa21:vjepa21", "--set encoder.depth=24 --set predictor.heads=2"), frozen None;
    vit_b: jepa("vit-b:more", "--set encoder.depth=1"), frozen None;
    watched: jepa("taps:watched", "--set encoder.depth=12"), frozen None;
    with_cls: jepa("registers:with_cls", "--set encoder.depth=1"), frozen None;
}
