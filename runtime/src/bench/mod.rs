//! How long a training step takes, on synthetic clips and drawn masks or on those of a recorded step; where the time
//! goes, and how near it is to what the machine can do.
//!
//! `vjepac::plan::work` counts the arithmetic of a step, `peak` measures the machine's rate in between the steps, `shares`
//! compares the two, `resident` asks the system for the memory of the process.

mod peak;
pub mod resident;
mod shares;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use vjepac::ir::graph::{InputSpec, Segments};
use vjepac::ir::philox;
use vjepac::plan::work::work;
use vjepac::program::{Entry, Program};

use crate::device::{self, How, Session, StepData, input_size};
use crate::error::{Error, Result};
use crate::masks::MaskSampler;
use crate::replay::read_step;
use crate::report::metrics::map;
use crate::report::progress::table;
use crate::report::trace::TraceFile;
use peak::Meter;
use shares::Shares;

/// Entries of a training step.
const STEP: [Entry; 2] = [Entry::Grads, Entry::Update];

/// Runs of the meter before each measured step.
const METERED: usize = 3;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Request {
    /// Clips of a step; without it those of `inputs`, or the program's.
    pub batch: Option<usize>,
    /// Measured steps, after one that is not.
    pub steps: usize,
    /// How the program is run.
    pub how: How,
    /// A directory with `step.1.safetensors`.
    pub inputs: Option<PathBuf>,
    /// Where to write a trace of one more step.
    pub trace: Option<PathBuf>,
}

/// What was measured. Shares are null where the back end does not tell the time of its ops.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bench {
    /// Median over the measured steps.
    pub seconds_a_step: f64,
    /// Clips of a step over that.
    pub clips_a_second: f64,
    /// Largest number of bytes the program held.
    pub peak_bytes: usize,
    /// Largest number of bytes of the process that were resident, as the system tells it; null where it does not.
    pub resident_peak_bytes: Option<usize>,
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
    /// The machine's rate of multiply-adds in the program's precision, measured in between the steps.
    pub peak_flops_a_second: f64,
    /// The instructions that reach that rate.
    pub peak_instructions: &'static str,
    /// `flops_a_step` over `seconds_a_step`, as a share of the machine's rate.
    pub peak_share: f64,
    /// Rate of the products of matrices alone, as a share of the machine's.
    pub products_share: Option<f64>,
    /// Rate of attention alone, likewise.
    pub attention_share: Option<f64>,
    /// Share of a step's time that is neither.
    pub outside_products: Option<f64>,
    /// Seconds a step by op.
    #[serde(serialize_with = "map")]
    pub by_op: Vec<(String, f64)>,
}

impl Bench {
    /// For people.
    pub fn text(&self) -> String {
        let giga = self.flops_a_step / 1e9;
        let mib = |bytes: usize| format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0));
        let percent = |share: Option<f64>| share.map(|share| format!("{:.1} %", 100.0 * share));
        let rate = self.peak_flops_a_second / 1e9;
        let mut rows = vec![
            ("seconds a step", format!("{:.4}", self.seconds_a_step)),
            ("clips a second", format!("{:.2}", self.clips_a_second)),
            ("batch", self.batch.to_string()),
            ("precision", self.dtype.clone()),
            ("threads", self.threads.to_string()),
            ("peak memory", mib(self.peak_bytes)),
        ];
        rows.extend(self.resident_peak_bytes.map(|bytes| ("  of the process", mib(bytes))));
        rows.push(("work a step", format!("{giga:.2} GFLOP, {:.1} GFLOP/s", giga / self.seconds_a_step)));
        rows.push(("machine's rate", format!("{rate:.1} GFLOP/s, {}", self.peak_instructions)));
        let shares = [
            ("  of it, a step", Some(self.peak_share)),
            ("  products", self.products_share),
            ("  attention", self.attention_share),
            ("time outside both", self.outside_products),
        ];
        rows.extend(shares.into_iter().filter_map(|(name, share)| Some((name, percent(share)?))));
        rows.extend(self.by_op.iter().map(|(op, seconds)| (op.as_str(), format!("{seconds:.4} s"))));
        table(&rows)
    }
}

/// Measures training steps.
pub fn bench(program: Arc<Program>, request: &Request) -> Result<Bench> {
    let (inputs, segments) = step_inputs(&program, request)?;
    let mut session = Session::new(program.clone(), device::machine(program.clone(), request.how)?);
    let trace = request.trace.as_deref().map(|path| TraceFile::create(path, session.machine())).transpose()?;
    let dtype = program.run.as_ref().map_or(String::new(), |r| r.precision.clone());
    let mut meter = Meter::new(&dtype, request.how.threads);
    session.init(0)?;
    let run = |session: &mut Session, step: u64| -> Result<f64> {
        let start = Instant::now();
        session.step(StepData { inputs: &inputs, segments: &segments, step }, false)?;
        Ok(start.elapsed().as_secs_f64())
    };
    run(&mut session, 1)?;
    session.machine().profile(); // what the first step took is no measure
    let last = request.steps as u64 + 1;
    let mut seconds = Vec::new();
    for step in 2..=last {
        meter.measure(METERED);
        seconds.push(run(&mut session, step)?);
    }
    let by_op: Vec<(String, f64)> =
        session.machine().profile().into_iter().map(|(op, s)| (op, s / request.steps as f64)).collect();
    if let Some(trace) = trace {
        session.machine().record()?;
        run(&mut session, last + 1)?;
        trace.write(&session.machine().recorded())?;
    }

    let work = work(&program, &STEP, &segments);
    let flops_a_step: f64 = work.iter().map(|w| w.flops).sum();
    let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
    let shares = Shares::new(&work, &by_op, mean, meter.rate());
    let seconds_a_step = median(&mut seconds);
    Ok(Bench {
        seconds_a_step,
        clips_a_second: segments.clips as f64 / seconds_a_step,
        peak_bytes: session.machine().peak_bytes(),
        resident_peak_bytes: resident::peak(),
        batch: segments.clips,
        dtype,
        device: "cpu",
        threads: request.how.threads,
        flops_a_step,
        peak_flops_a_second: meter.rate(),
        peak_instructions: meter.instructions(),
        peak_share: flops_a_step / seconds_a_step / meter.rate(),
        products_share: shares.products,
        attention_share: shares.attention,
        outside_products: shares.outside,
        by_op,
    })
}

/// Clips and index sets of the step: those of a recording, or noise and drawn masks.
fn step_inputs(program: &Program, request: &Request) -> Result<(Vec<Vec<f32>>, Segments)> {
    let Some(directory) = &request.inputs else {
        let clips = request.batch.or(program.run.as_ref().map(|r| r.batch)).unwrap_or(1);
        let seed = program.run.as_ref().map_or(0, |r| r.seed);
        return Ok((synthetic(program, clips), MaskSampler::draw(program, seed, 1, 0, clips)?));
    };
    let step = read_step(&directory.join("step.1.safetensors"), program)?;
    match request.batch.filter(|batch| *batch != step.segments.clips) {
        Some(batch) => {
            let clips = step.segments.clips;
            Err(Error::usage(format!("--batch {batch}: the clips of --inputs are {clips}")))
        }
        None => Ok((step.inputs, step.segments)),
    }
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
