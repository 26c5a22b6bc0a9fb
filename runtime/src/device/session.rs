//! A session: a program and the machine that holds its slots. A training step is calls of entries: clear the gradients,
//! `grads` once a micro-batch, `update`.

use std::sync::Arc;

use vjepac::ir::graph::{Segments, SlotId, SlotKind};
use vjepac::lower::{Machine, Output, StepInputs};
use vjepac::program::{Entry, Program};

use super::{initial, slice};
use crate::error::{Error, Result};
use crate::train::schedule;

/// A program on a machine.
pub struct Session {
    program: Arc<Program>,
    machine: Box<dyn Machine>,
    micro_batch: Option<usize>,
}

/// What one step did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepReport {
    /// Mean loss over the clips of the batch, before the update.
    pub loss: f64,
    /// Learning rate, if the optimiser has one.
    pub lr: Option<f64>,
    /// Weight decay.
    pub weight_decay: Option<f64>,
    /// Momentum of each moving average, by field.
    pub ema: Vec<(String, f64)>,
    /// Norm of each network's gradient before clipping.
    pub grad_norm: Vec<(String, f64)>,
    /// Share of the tokens that each mask leaves in the context, and in its targets.
    pub shares: TokenShares,
    /// Metrics, if they were asked for, with the weights before the update.
    pub metrics: Vec<(String, f64)>,
}

/// Mean over clips of the share of all tokens, one number a mask of the program.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenShares {
    /// Visible tokens.
    pub context: Vec<f64>,
    /// Tokens of one row of targets.
    pub target: Vec<f64>,
}

/// One step's clips and index sets.
#[derive(Clone, Copy, Debug)]
pub struct StepData<'a> {
    /// For each input of the tables: all clips one after another.
    pub inputs: &'a [Vec<f32>],
    /// Index sets.
    pub segments: &'a Segments,
    /// Step, from 1.
    pub step: u64,
}

impl Session {
    /// A session whose slots are all zero.
    pub fn new(program: Arc<Program>, machine: Box<dyn Machine>) -> Session {
        Session { program, machine, micro_batch: None }
    }

    /// Runs at most this many clips at once (whole groups, at least one).
    pub fn set_micro_batch(&mut self, clips: Option<usize>) {
        self.micro_batch = clips;
    }

    /// The program.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// The machine.
    pub fn machine(&mut self) -> &mut dyn Machine {
        self.machine.as_mut()
    }

    /// Content of a slot.
    pub fn slot(&self, id: SlotId) -> &[f32] {
        self.machine.slot(id)
    }

    /// Replaces the content of a slot.
    pub fn set_slot(&mut self, id: SlotId, data: &[f32]) {
        self.machine.slot_mut(id).copy_from_slice(data);
    }

    /// Slots with their numbers.
    pub fn slots(&self) -> impl Iterator<Item = (SlotId, &vjepac::ir::graph::Slot)> {
        (0..).map(SlotId).zip(&self.program.tables.slots)
    }

    /// Buffers and initial weights for a seed; everything else is zero.
    pub fn init(&mut self, seed: u64) -> Result<()> {
        for i in 0..self.program.tables.slots.len() {
            self.machine.slot_mut(SlotId(i as u32)).fill(0.0);
        }
        let program = self.program.clone();
        initial::contents(&program, seed, |id, data| {
            let slot = &program.tables.slots[id.0 as usize];
            let size: usize = slot.shape.iter().product();
            if data.len() != size {
                let (key, n) = (&slot.key, data.len());
                return Err(Error::failed(format!("compiler bug: init gives `{key}` {n} numbers, not {size}")));
            }
            self.machine.slot_mut(id).copy_from_slice(&data);
            Ok(())
        })?;
        self.copy_averages(&[]);
        Ok(())
    }

    /// Moving averages become what they follow, except those in `given`.
    pub fn copy_averages(&mut self, given: &[SlotId]) {
        let program = self.program.clone();
        for (i, slot) in program.tables.slots.iter().enumerate() {
            if let SlotKind::Average { of, .. } = slot.kind
                && !given.contains(&SlotId(i as u32))
            {
                let source = self.machine.slot(of).to_vec();
                self.machine.slot_mut(SlotId(i as u32)).copy_from_slice(&source);
            }
        }
    }

    /// One optimiser step; `metrics` are evaluated before the update.
    pub fn step(&mut self, data: StepData, metrics: bool) -> Result<StepReport> {
        let loss = self.gradients(data)?.loss;
        let metrics = if metrics { self.metrics(data)? } else { Vec::new() };
        let grad_norm = self.update(data)?;
        let scalars = schedule::scalars(&self.program, data.step, 1.0)?;
        Ok(StepReport {
            loss,
            lr: schedule::named(&self.program, &scalars, "lr"),
            weight_decay: schedule::named(&self.program, &scalars, "weight_decay"),
            ema: schedule::momenta(&self.program, &scalars),
            grad_norm,
            shares: token_shares(&self.program, data.segments),
            metrics,
        })
    }

    /// Plans for the parts of a step with these counts, so that a limit of memory that it cannot keep is told at once. Bytes
    /// that the machine will hold, if it can tell.
    pub fn prepare(&mut self, segments: &Segments) -> Result<Option<usize>> {
        let program = self.program.clone();
        let group = program.run.as_ref().map_or(1, |r| r.group);
        let mut most = None;
        for part in slice::micro_batches(segments.clips, group, self.micro_batch.unwrap_or(segments.clips)) {
            most = most.max(self.machine.prepare(&slice::segments(&program.tables, segments, &part))?);
        }
        Ok(most)
    }

    /// Forward and backward: the gradient slots hold the batch's gradient afterwards.
    pub fn gradients(&mut self, data: StepData) -> Result<Gradients> {
        let program = self.program.clone();
        for (i, slot) in program.tables.slots.iter().enumerate() {
            if matches!(slot.kind, SlotKind::Gradient { .. }) {
                self.machine.slot_mut(SlotId(i as u32)).fill(0.0);
            }
        }
        let mut loss = 0.0;
        let mut last = Vec::new();
        self.each_part(Entry::Grads, data, |_, outputs| {
            loss += number(&outputs, "loss")?; // already weighted by the share of the clips
            last = outputs;
            Ok(())
        })?;
        Ok(Gradients { loss, outputs: last })
    }

    /// The metrics entry.
    pub fn metrics(&mut self, data: StepData) -> Result<Vec<(String, f64)>> {
        let mut sums: Vec<(String, f64)> = Vec::new();
        if self.program.entry(Entry::Metrics).outputs.is_empty() {
            return Ok(sums);
        }
        self.each_part(Entry::Metrics, data, |share, outputs| {
            for output in &outputs {
                let name = output.name.strip_prefix("metric.").unwrap_or(&output.name);
                let value = share * number(&outputs, &output.name)?;
                match sums.iter_mut().find(|(n, _)| n == name) {
                    Some((_, sum)) => *sum += value,
                    None => sums.push((name.to_string(), value)),
                }
            }
            Ok(())
        })?;
        Ok(sums)
    }

    /// The update entry: clipping, optimiser, moving averages. Norms before clipping, by network.
    pub fn update(&mut self, data: StepData) -> Result<Vec<(String, f64)>> {
        let scalars = schedule::scalars(&self.program, data.step, 1.0)?;
        let inputs = StepInputs { segments: data.segments, inputs: data.inputs, scalars: &scalars };
        let outputs = self.machine.run(Entry::Update, &inputs)?;
        let norms = outputs.iter().filter_map(|o| Some((o.name.strip_prefix("grad_norm.")?, *o.data.first()? as f64)));
        Ok(norms.map(|(network, norm)| (network.to_string(), norm)).collect())
    }

    /// Runs an entry on each micro-batch; `take` gets its share of the clips and its outputs.
    fn each_part(
        &mut self,
        entry: Entry,
        data: StepData,
        mut take: impl FnMut(f64, Vec<Output>) -> Result<()>,
    ) -> Result<()> {
        let program = self.program.clone();
        let clips = data.segments.clips;
        let group = program.run.as_ref().map_or(1, |r| r.group);
        let parts = slice::micro_batches(clips, group, self.micro_batch.unwrap_or(clips));
        if parts.len() == 1 {
            let scalars = schedule::scalars(&program, data.step, 1.0)?;
            let inputs = StepInputs { segments: data.segments, inputs: data.inputs, scalars: &scalars };
            return take(1.0, self.machine.run(entry, &inputs)?);
        }
        for part in parts {
            let share = part.len() as f64 / clips as f64;
            let scalars = schedule::scalars(&program, data.step, share)?;
            let inputs = slice::inputs(&program.tables, data.inputs, &part);
            let segments = slice::segments(&program.tables, data.segments, &part);
            let inputs = StepInputs { segments: &segments, inputs: &inputs, scalars: &scalars };
            take(share, self.machine.run(entry, &inputs)?)?;
        }
        Ok(())
    }
}

/// What forward and backward gave besides the gradient slots.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// Mean loss over the clips.
    pub loss: f64,
    /// Outputs of the last micro-batch.
    pub outputs: Vec<Output>,
}

/// The only number of an output.
fn number(outputs: &[Output], name: &str) -> Result<f64> {
    match outputs.iter().find(|o| o.name == name).map(|o| o.data.as_slice()) {
        Some([value]) => Ok(*value as f64),
        Some(data) => Err(Error::failed(format!("compiler bug: output `{name}` holds {} numbers", data.len()))),
        None => Err(Error::failed(format!("compiler bug: no output is called `{name}`"))),
    }
}

/// Means over clips of the shares of tokens kept, by mask.
fn token_shares(program: &Program, segments: &Segments) -> TokenShares {
    let tables = &program.tables;
    let mut shares = TokenShares { context: vec![0.0; tables.masks.len()], target: vec![0.0; tables.masks.len()] };
    for (set, data) in tables.sets.iter().zip(&segments.sets) {
        for (place, &mask) in set.masks.iter().enumerate() {
            let all = (tables.masks[mask].tokens * segments.clips) as f64;
            let range = place * segments.clips..(place + 1) * segments.clips;
            shares.context[mask] = data.context_count[range.clone()].iter().sum::<usize>() as f64 / all;
            shares.target[mask] = data.target_count[range].iter().sum::<usize>() as f64 / all;
        }
    }
    shares
}
