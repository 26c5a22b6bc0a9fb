//! A whole step on both lowerings and the interpreter: one loss, the same gradients, with and without recognised idioms.

#[path = "passes/model.rs"]
mod model;
#[path = "passes/world.rs"]
#[allow(dead_code, reason = "the tests of passes use the rest")]
mod world;

use std::sync::Arc;

use vjepac::autodiff::gradients;
use vjepac::ir::eval::{Env, eval};
use vjepac::ir::graph::{Graph, SlotId, Tables};
use vjepac::lower::cpu::CpuMachine;
use vjepac::lower::reference::ReferenceMachine;
use vjepac::lower::{Machine, StepInputs};
use vjepac::passes::{after_gradient, before_gradient, run_passes};
use vjepac::program::{Entry, Program};

/// f32 through some twenty layers and back, weights of size 1: relative to the largest element of a tensor.
const TOLERANCE: f64 = 5e-5;

/// The step with the gradient of every slot as an output.
fn step(recognised: bool) -> (Tables, Graph) {
    let (tables, mut graph) = model::step();
    if recognised {
        run_passes(&tables, &mut graph, before_gradient());
    }
    let slots: Vec<SlotId> = (0..tables.slots.len() as u32).map(SlotId).collect();
    let loss = graph.output("loss").expect("the step has a loss");
    for (slot, gradient) in gradients(&tables, &mut graph, loss, &slots).unwrap() {
        if let Some(gradient) = gradient {
            graph.outputs.push((format!("gradient of {}", tables.slots[slot.0 as usize].key), gradient));
        }
    }
    run_passes(&tables, &mut graph, after_gradient());
    (tables, graph)
}

/// Content that f32 holds exactly.
fn content(tables: &Tables, seed: u64) -> (Env, Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let mut env = world::env(tables, seed);
    let narrow =
        |v: &[Vec<f64>]| -> Vec<Vec<f32>> { v.iter().map(|v| v.iter().map(|x| *x as f32).collect()).collect() };
    let wide =
        |v: &[Vec<f32>]| -> Vec<Vec<f64>> { v.iter().map(|v| v.iter().map(|x| f64::from(*x)).collect()).collect() };
    let (inputs, slots) = (narrow(&env.inputs), narrow(&env.slots));
    (env.inputs, env.slots) = (wide(&inputs), wide(&slots));
    (env, inputs, slots)
}

fn compare(recognised: bool, machine: impl Fn(Arc<Program>) -> Box<dyn Machine>) {
    let (tables, graph) = step(recognised);
    let mut program = Program { tables, ..Program::default() };
    program.entries[Entry::Grads as usize] = graph;
    let program = Arc::new(program);
    let mut machine = machine(program.clone());
    for seed in 0..2 {
        let (mut env, inputs, slots) = content(&program.tables, seed);
        let expected = eval(&program.tables, program.entry(Entry::Grads), &mut env).unwrap();
        assert!(expected.len() > 20, "most slots have a gradient");
        for (i, s) in slots.iter().enumerate() {
            machine.slot_mut(SlotId(i as u32)).copy_from_slice(s);
        }
        let step = StepInputs { segments: &env.segments, inputs: &inputs, scalars: &[] };
        let found = machine.run(Entry::Grads, &step).unwrap();
        assert_eq!(found.len(), expected.len());
        for (output, (name, tensor)) in found.iter().zip(&expected) {
            let expected = tensor.flat();
            assert_eq!((&output.name, output.data.len()), (name, expected.len()));
            let largest = expected.iter().fold(1e-6f64, |m, x| m.max(x.abs()));
            for (i, (f, e)) in output.data.iter().zip(&expected).enumerate() {
                let far = (f64::from(*f) - e).abs() / largest;
                assert!(far <= TOLERANCE, "seed {seed}: {name}[{i}]: found {f}, expected {e}, largest {largest}");
            }
        }
    }
}

#[test]
fn reference_recognised() {
    compare(true, |p| Box::new(ReferenceMachine::new(p).unwrap()));
}

#[test]
fn reference_as_written() {
    compare(false, |p| Box::new(ReferenceMachine::new(p).unwrap()));
}

#[test]
fn cpu_recognised() {
    compare(true, |p| Box::new(CpuMachine::new(p, 2, None).unwrap()));
}

#[test]
fn cpu_as_written() {
    compare(false, |p| Box::new(CpuMachine::new(p, 2, None).unwrap()));
}
