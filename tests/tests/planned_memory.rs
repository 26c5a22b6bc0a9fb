//! What a step is foretold to hold is what it holds.

use std::path::Path;
use std::sync::Arc;

use vjepa_run::device::{self, Session, StepData};
use vjepa_run::masks::MaskSampler;
use vjepa_tests::{SHRINK, scratch, vjepac};
use vjepac::lower::Backend;
use vjepac::lower::cpu::peak;
use vjepac::program::Program;

fn compile(dir: &Path, more: &str) -> Arc<Program> {
    let out = dir.join("model.vjc");
    vjepac(&format!("compile {more} -o {}", out.display())).succeeded();
    Arc::new(Program::read(&std::fs::read(&out).unwrap()).unwrap())
}

fn foretold_is_held(program: Arc<Program>, threads: usize) {
    let run = program.run.clone().unwrap();
    let inputs: Vec<Vec<f32>> = program
        .tables
        .inputs
        .iter()
        .map(|spec| (0..run.batch * device::input_size(spec)).map(|i| (i % 7) as f32 / 7.0).collect())
        .collect();
    let machine = device::machine(program.clone(), Backend::Cpu, threads).unwrap();
    let mut session = Session::new(program.clone(), machine);
    session.init(run.seed).unwrap();
    let mut foretold = 0;
    for step in 1..=3 {
        let segments = MaskSampler::draw(&program, run.seed, step, 0, run.batch).unwrap();
        foretold = peak(&program, &segments, threads).unwrap().total().max(foretold);
        session.step(StepData { inputs: &inputs, segments: &segments, step }, true).unwrap();
        assert_eq!(session.machine().peak_bytes(), foretold, "step {step}, {threads} threads");
    }
}

#[test]
fn in_f32_and_bf16_with_any_number_of_threads() {
    let dir = scratch();
    for precision in ["f32", "bf16"] {
        let model = format!("models/tiny.vjepa:tiny {SHRINK} --set 'train.precision=\"{precision}\"'");
        let program = compile(dir.path(), &model);
        for threads in [1, 2, 5] {
            foretold_is_held(program.clone(), threads);
        }
    }
}

#[test]
fn of_a_vision_transformer() {
    let dir = scratch();
    let shrink = "--set clip.frames=4 --set clip.size=64 --set encoder.dim=48 --set encoder.depth=2 --set encoder.heads=2 \
                  --set predictor.dim=24 --set predictor.depth=2 --set train.batch=2 --set train.group=2";
    foretold_is_held(compile(dir.path(), &format!("models/vjepa-vitl16.vjepa {shrink}")), 2);
}
