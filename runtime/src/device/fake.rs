//! A machine for tests: one trained vector, a buffer, a moving average, a moment; each step's label pulls the weights.

use std::sync::Arc;

use vjepac::ir::graph::{InputSpec, ScalarId, ScalarSpec, Segments, Slot, SlotId, SlotKind, Tables, Type};
use vjepac::ir::op::DType;
use vjepac::lower::{Event, LowerError, Machine, Output, StepInputs};
use vjepac::model::Schedule;
use vjepac::program::{Entry, Program, RunSettings};

use super::Session;

/// Slots: weight, buffer, average, moment, gradient.
pub struct Fake {
    slots: Vec<Vec<f32>>,
}

/// The program that [`Fake`] plays: `batch` clips a step, `steps` steps.
pub fn program(batch: usize, steps: usize) -> Program {
    let slot = |key: &str, kind| Slot { key: key.into(), shape: vec![3], kind };
    let of = SlotId(0);
    let scalar = |name: &str, schedule, previous| ScalarSpec { name: name.into(), schedule, previous };
    Program {
        name: "fake".into(),
        tables: Tables {
            slots: vec![
                slot("encoder.weight", SlotKind::Trained { network: 0, decay: true }),
                slot("encoder.pos", SlotKind::Buffer),
                slot("target.weight", SlotKind::Average { of, momentum: ScalarId(1) }),
                slot("exp_avg.encoder.weight", SlotKind::Moment { of, name: "exp_avg".into() }),
                slot("grad.encoder.weight", SlotKind::Gradient { of }),
            ],
            networks: vec!["encoder".into()],
            inputs: vec![InputSpec::Label { classes: 10 }],
            scalars: vec![
                scalar("lr", Some(0), false),
                scalar("ema.target", Some(1), true),
                scalar("clips_share", None, false),
            ],
            ..Tables::default()
        },
        schedules: vec![Schedule::Ramp(0.1, 0.01), Schedule::Ramp(0.9, 1.0)],
        run: Some(RunSettings { data: vec![], batch, group: 0, steps, seed: 5, precision: "f32".into() }),
        resolved: "model fake {}\n".into(),
        ..Program::default()
    }
}

/// A session on the fake, with weights as `init` would give them.
pub fn session(program: Program) -> Session {
    let slots = vec![vec![0.5, -1.0, 2.0], vec![1.0, 2.0, 3.0], vec![0.5, -1.0, 2.0], vec![0.0; 3], vec![0.0; 3]];
    Session::new(Arc::new(program), Box::new(Fake { slots }))
}

fn output(name: &str, value: f32) -> Output {
    Output { name: name.into(), ty: Type::scalar(DType::F32), data: vec![value] }
}

impl Machine for Fake {
    fn slot(&self, id: SlotId) -> &[f32] {
        &self.slots[id.0 as usize]
    }

    fn slot_mut(&mut self, id: SlotId) -> &mut [f32] {
        &mut self.slots[id.0 as usize]
    }

    fn run(&mut self, entry: Entry, step: &StepInputs) -> Result<Vec<Output>, LowerError> {
        let (lr, momentum, share) = (step.scalars[0] as f32, step.scalars[1] as f32, step.scalars[2] as f32);
        match entry {
            Entry::Grads => {
                let labels = &step.inputs[0];
                let mut loss = 0.0;
                for &label in labels {
                    for i in 0..3 {
                        let far = self.slots[0][i] - label;
                        loss += far * far * share / labels.len() as f32;
                        self.slots[4][i] += 2.0 * far * share / labels.len() as f32;
                    }
                }
                Ok(vec![output("loss", loss)])
            }
            Entry::Update => {
                let norm = self.slots[4].iter().map(|g| g * g).sum::<f32>().sqrt();
                for i in 0..3 {
                    self.slots[3][i] = 0.9 * self.slots[3][i] + 0.1 * self.slots[4][i];
                    self.slots[0][i] -= lr * self.slots[3][i];
                    self.slots[2][i] = momentum * self.slots[2][i] + (1.0 - momentum) * self.slots[0][i];
                }
                Ok(vec![output("grad_norm.encoder", norm)])
            }
            Entry::Init | Entry::Draw | Entry::Metrics | Entry::Backbone => Ok(vec![]),
        }
    }

    fn prepare(&mut self, _: &Segments) -> Result<Option<usize>, LowerError> {
        Ok(None)
    }

    fn peak_bytes(&self) -> usize {
        0
    }

    fn profile(&mut self) -> Vec<(String, f64)> {
        vec![]
    }

    fn record(&mut self) -> Result<(), LowerError> {
        Ok(())
    }

    fn recorded(&mut self) -> Vec<Event> {
        vec![]
    }
}
