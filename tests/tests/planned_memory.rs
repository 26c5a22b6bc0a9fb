//! What a step is foretold to hold is what it holds.

use std::path::Path;
use std::sync::Arc;

use vjepa_run::device::{self, How, Session, StepData};
use vjepa_run::masks::MaskSampler;
use vjepa_tests::{SHRINK, scratch, vjepac};
use vjepac::lower::cpu::{peak, peak_within};
use vjepac::lower::{Backend, LowerError};
use vjepac::program::Program;

fn compile(dir: &Path, more: &str) -> Arc<Program> {
    let out = dir.join("model.vjc");
    vjepac(&format!("compile {more} -o {}", out.display())).succeeded();
    Arc::new(Program::read(&std::fs::read(&out).unwrap()).unwrap())
}

/// Clips of a step, the same in every call.
fn clips(program: &Program) -> Vec<Vec<f32>> {
    let batch = program.run.as_ref().unwrap().batch;
    let clips = |spec| (0..batch * device::input_size(spec)).map(|i| (i % 7) as f32 / 7.0).collect();
    program.tables.inputs.iter().map(clips).collect()
}

/// Three steps within a limit: what is held, and every slot afterwards. Checks what was foretold of each step.
fn held(program: &Arc<Program>, threads: usize, memory: Option<usize>) -> (usize, Vec<Vec<f32>>) {
    let (run, inputs) = (program.run.clone().unwrap(), clips(program));
    let machine = device::machine(program.clone(), How { backend: Backend::Cpu, threads, memory }).unwrap();
    let mut session = Session::new(program.clone(), machine);
    session.init(run.seed).unwrap();
    let mut foretold = 0;
    for step in 1..=3 {
        let segments = MaskSampler::draw(program, run.seed, step, 0, run.batch).unwrap();
        session.step(StepData { inputs: &inputs, segments: &segments, step }, true).unwrap();
        let held = session.machine().peak_bytes();
        foretold = peak_within(program, &segments, threads, memory).unwrap().total().max(foretold);
        match memory {
            None => assert_eq!(held, foretold, "step {step}, {threads} threads"),
            // Plans depend on the steps before, so what one step alone would take is not what it takes now.
            Some(memory) => assert!(held <= memory && foretold <= memory, "step {step}: {held}, {foretold}, {memory}"),
        }
    }
    let slots = session.slots().map(|(id, _)| session.slot(id).to_vec()).collect();
    (session.machine().peak_bytes(), slots)
}

fn foretold_is_held(program: Arc<Program>, threads: usize) {
    held(&program, threads, None);
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

const VISION: &str = "models/vjepa-vitl16.vjepa --set clip.frames=8 --set clip.size=64 --set 'encoder.patch=8 px' \
    --set encoder.dim=48 --set encoder.depth=6 --set encoder.heads=2 --set predictor.dim=24 --set predictor.depth=6 \
    --set train.batch=4 --set train.group=2";

#[test]
fn of_a_vision_transformer() {
    let dir = scratch();
    foretold_is_held(compile(dir.path(), VISION), 2);
}

#[test]
fn a_limit_is_kept_and_changes_no_bit() {
    let dir = scratch();
    for precision in ["f32", "bf16"] {
        let program = compile(dir.path(), &format!("{VISION} --set 'train.precision=\"{precision}\"'"));
        let segments = MaskSampler::draw(&program, 0, 1, 0, 4).unwrap();
        let slots = peak(&program, &segments, 2).unwrap().slots;
        let (free, as_free) = held(&program, 2, None);
        // Shares of what the values take if nothing but what is cheap is computed again.
        for share in [0.8, 0.6, 0.4] {
            let limit = slots + (share * (free - slots) as f64) as usize;
            let (kept, as_kept) = held(&program, 2, Some(limit));
            assert!(kept <= limit && slots < kept, "{precision}: {kept} of {limit}");
            assert!(as_free == as_kept, "{precision}: other bits at {share}");
        }
    }
}

#[test]
fn a_limit_that_cannot_be_kept_is_told_with_the_least() {
    let dir = scratch();
    let program = compile(dir.path(), VISION);
    let segments = MaskSampler::draw(&program, 0, 1, 0, 4).unwrap();
    let slots = peak(&program, &segments, 1).unwrap().slots;
    let told = |limit| peak_within(&program, &segments, 1, Some(limit)).unwrap_err();
    let LowerError::User(text) = told(slots + 4096) else { panic!("a bug was told") };
    assert!(text.contains("a step of 4 clips takes at least") && text.contains("--micro-batch"), "{text}");
    let LowerError::User(text) = told(slots / 2) else { panic!("a bug was told") };
    assert!(text.contains("optimiser state alone take"), "{text}");
}
