//! Memory over a thousand steps. Alone in its file: what is resident counts for the whole process.

use std::sync::Arc;

use vjepa_run::bench::resident;
use vjepa_run::device::{self, How, Session, StepData};
use vjepa_run::masks::MaskSampler;
use vjepa_tests::{scratch, vjepac};
use vjepac::lower::Backend;
use vjepac::program::Program;

/// How much more may be resident after a thousand steps than after a hundred. A step of this model holds about 250 kB,
/// so one buffer of 10 kB that is lost a step would add 9 MB; allocators and threads settle well within half of it.
const GROWTH: usize = 4 << 20;

/// Mask draws that are used in turn, so that every size a step can have is met within the first ten steps.
const DRAWS: u64 = 5;

#[test]
fn a_thousand_steps_leave_memory_flat() {
    let dir = scratch();
    let out = dir.path().join("least.vjc");
    let least = "--set clip.frames=2 --set clip.size=32 --set encoder.patch=8 --set encoder.dim=12 --set encoder.depth=1 \
                 --set encoder.heads=1 --set predictor.dim=6 --set predictor.depth=1 --set train.batch=2 \
                 --set train.group=1 --set train.warmup=2 --set train.steps=1000";
    vjepac(&format!("compile models/tiny.vjepa:tiny {least} -o {}", out.display())).succeeded();
    let program = Arc::new(Program::read(&std::fs::read(&out).unwrap()).unwrap());
    let run = program.run.clone().unwrap();
    let draw = |step| MaskSampler::draw(&program, run.seed, step, 0, run.batch).unwrap();
    let draws: Vec<_> = (1..=DRAWS).map(draw).collect();
    let inputs: Vec<Vec<f32>> = program
        .tables
        .inputs
        .iter()
        .map(|spec| (0..run.batch * device::input_size(spec)).map(|i| (i % 7) as f32 / 7.0).collect())
        .collect();

    let mut session = Session::new(
        program.clone(),
        device::machine(program, How { backend: Backend::Cpu, threads: 2, memory: None }).unwrap(),
    );
    session.init(run.seed).unwrap();
    let (mut held, mut there) = (0, None);
    for step in 1..=1000 {
        let segments = &draws[(step % DRAWS) as usize];
        let report = session.step(StepData { inputs: &inputs, segments, step }, step.is_multiple_of(10)).unwrap();
        assert!(report.loss.is_finite(), "step {step}");
        match step {
            10 => held = session.machine().peak_bytes(),
            100 => there = resident::now(),
            _ => {}
        }
    }
    assert!(held > 0);
    assert_eq!(session.machine().peak_bytes(), held, "what a step holds has grown");
    match there.zip(resident::now()) {
        Some((before, after)) => assert!(
            after <= before + GROWTH,
            "{before} bytes were resident after 100 steps, {after} after 1000, at most {GROWTH} more are expected"
        ),
        None => eprintln!("skipped: this system does not tell resident memory"),
    }
}
