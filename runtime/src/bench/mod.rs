//! How long a training step takes: on synthetic clips and drawn masks, or on those of a recorded step.

mod flops;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use vjepac::ir::graph::InputSpec;
use vjepac::ir::philox;
use vjepac::lower::Backend;
use vjepac::program::{Entry, Program};

use crate::device::{self, Session, StepData, input_size};
use crate::error::{Error, Result};
use crate::masks::MaskSampler;
use crate::replay::read_step;
use crate::report::metrics::map;
use crate::report::progress::table;

pub use flops::flops;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Request {
    /// Clips of a step; without it those of `inputs`, or the program's.
    pub batch: Option<usize>,
    /// Measured steps, after one that is not.
    pub steps: usize,
    /// Which lowering.
    pub backend: Backend,
    /// Threads.
    pub threads: usize,
    /// A directory with `step.1.safetensors`.
    pub inputs: Option<PathBuf>,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bench {
    /// Median over the measured steps.
    pub seconds_a_step: f64,
    /// Clips of a step over that.
    pub clips_a_second: f64,
    /// Largest number of bytes the program held.
    pub peak_bytes: usize,
    /// Clips of a step.
    pub batch: usize,
    /// Precision of the program.
    pub dtype: String,
    /// Where it ran.
    pub device: &'static str,
    /// Threads.
    pub threads: usize,
    /// Products and sums of a step's contractions, with its own token counts.
    pub flops_a_step: f64,
    /// Share of the device's rate; null where that was not measured.
    pub peak_share: Option<f64>,
    /// Seconds a step by op.
    #[serde(serialize_with = "map")]
    pub by_op: Vec<(String, f64)>,
}

impl Bench {
    /// For people.
    pub fn text(&self) -> String {
        let giga = self.flops_a_step / 1e9;
        let mut rows = vec![
            ("seconds a step", format!("{:.4}", self.seconds_a_step)),
            ("clips a second", format!("{:.2}", self.clips_a_second)),
            ("batch", self.batch.to_string()),
            ("precision", self.dtype.clone()),
            ("threads", self.threads.to_string()),
            ("peak memory", format!("{:.1} MiB", self.peak_bytes as f64 / (1024.0 * 1024.0))),
            ("work a step", format!("{giga:.2} GFLOP, {:.1} GFLOP/s", giga / self.seconds_a_step)),
        ];
        rows.extend(self.by_op.iter().map(|(op, seconds)| (op.as_str(), format!("{seconds:.4} s"))));
        table(&rows)
    }
}

/// Measures training steps.
pub fn bench(program: Arc<Program>, request: &Request) -> Result<Bench> {
    let (inputs, segments) = match &request.inputs {
        Some(directory) => {
            let step = read_step(&directory.join("step.1.safetensors"), &program)?;
            if let Some(batch) = request.batch.filter(|b| *b != step.segments.clips) {
                let clips = step.segments.clips;
                return Err(Error::usage(format!("--batch {batch}: the clips of --inputs are {clips}")));
            }
            (step.inputs, step.segments)
        }
        None => {
            let clips = request.batch.or(program.run.as_ref().map(|r| r.batch)).unwrap_or(1);
            let seed = program.run.as_ref().map_or(0, |r| r.seed);
            (synthetic(&program, clips), MaskSampler::draw(&program, seed, 1, 0, clips)?)
        }
    };
    let clips = segments.clips;
    let mut session =
        Session::new(program.clone(), device::machine(program.clone(), request.backend, request.threads)?);
    session.init(0)?;
    let mut seconds = Vec::new();
    for step in 0..=request.steps as u64 {
        if step == 1 {
            session.machine().profile(); // what the first step took is no measure
        }
        let start = Instant::now();
        session.step(StepData { inputs: &inputs, segments: &segments, step: step + 1 }, false)?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    let by_op = session.machine().profile().into_iter().map(|(op, s)| (op, s / request.steps as f64)).collect();
    let seconds_a_step = median(&mut seconds[1..]);
    Ok(Bench {
        seconds_a_step,
        clips_a_second: clips as f64 / seconds_a_step,
        peak_bytes: session.machine().peak_bytes(),
        batch: clips,
        dtype: program.run.as_ref().map_or(String::new(), |r| r.precision.clone()),
        device: "cpu",
        threads: request.threads,
        flops_a_step: [Entry::Grads, Entry::Update].map(|e| flops(&program, e, &segments)).iter().sum(),
        peak_share: None,
        by_op,
    })
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// Clips of noise, and labels of every class in turn.
fn synthetic(program: &Program, clips: usize) -> Vec<Vec<f32>> {
    let fill = |(n, spec): (usize, &InputSpec)| -> Vec<f32> {
        let size = clips * input_size(spec);
        match spec {
            InputSpec::Video(_) | InputSpec::Image(_) => {
                let stream = philox::Stream::new(0, n as u64, None, "bench", 0);
                (0..size as u32).map(|i| stream.normal(i, 0) as f32).collect()
            }
            InputSpec::Label { classes } => (0..size).map(|i| (i % classes) as f32).collect(),
        }
    };
    program.tables.inputs.iter().enumerate().map(fill).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_the_mean_of_the_middle_two() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
