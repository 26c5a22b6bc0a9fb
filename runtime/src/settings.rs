//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use vjepac::lower::Backend;

use crate::checkpoint::WeightsFrom;
use crate::device::How;

/// Trains programs compiled from .vjepa files on video, and checks and times them.
#[derive(Clone, Debug, Parser)]
#[command(name = "vjepa-run", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Train a program on video; continues RUN if it holds a checkpoint
    Train(Train),
    /// Run recorded steps and report every difference; fails beyond the bounds of the program's precision
    Replay(Replay),
    /// Measure the time of a training step
    Bench(Bench),
}

/// Where a program runs.
#[derive(Clone, Debug, Args)]
pub struct On {
    /// Threads; all processors if not given
    #[arg(long, value_name = "T", value_parser = at_least_one)]
    pub threads: Option<usize>,
    /// Device: the fastest there is, or the processor
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub device: Device,
    /// How the program is run: fused kernels, or primitives (for tiny shapes)
    #[arg(long, value_enum, default_value_t = BackendName::Cpu)]
    pub backend: BackendName,
    /// Memory for weights, optimiser state and the values of a step, such as 12GiB: what does not fit is computed again
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub memory: Option<usize>,
}

impl On {
    /// How a program is run.
    pub fn how(&self) -> How {
        How { backend: self.backend.into(), threads: self.threads(), memory: self.memory }
    }

    /// Threads to use.
    pub fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }
}

/// Devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Device {
    Auto,
    Cpu,
}

/// Lowerings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum BackendName {
    Cpu,
    Reference,
}

impl From<BackendName> for Backend {
    fn from(name: BackendName) -> Backend {
        match name {
            BackendName::Cpu => Backend::Cpu,
            BackendName::Reference => Backend::Reference,
        }
    }
}

/// `vjepa-run train`.
#[derive(Clone, Debug, Args)]
pub struct Train {
    /// A compiled program
    #[arg(value_name = "OUT.vjc")]
    pub program: PathBuf,
    /// A list or folder of clips: PATH for a model with one name of data, else NAME=PATH for each
    #[arg(long, value_name = "[NAME=]PATH")]
    pub data: Vec<String>,
    /// Directory of the run
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
    /// Stop after this step and save; schedules keep the program's steps
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: Option<u64>,
    /// Seed; the program's if not given
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Threads that decode video ahead of the step; 0 decodes in between steps
    #[arg(long, value_name = "W", default_value_t = 2)]
    pub workers: usize,
    /// Memory for decoded frames, such as 512MiB or 4GiB
    #[arg(long, value_name = "BYTES", default_value = "1GiB", value_parser = bytes)]
    pub cache_memory: usize,
    /// Clips that are run at once: whole groups, at least one; all if not given
    #[arg(long, value_name = "CLIPS", value_parser = at_least_one)]
    pub micro_batch: Option<usize>,
    /// Steps between checkpoints; a tenth of the run, at most 1000, if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub save_every: Option<u64>,
    /// Number of checkpoints that are kept
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = at_least_one)]
    pub keep: usize,
    /// Steps between evaluations of the model's metrics
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub metrics_every: u64,
    /// Weights to start from: a field of the model, a safetensors file, what its keys have in place of `FIELD.`
    #[arg(long, value_name = "FIELD=FILE[:PREFIX]")]
    pub weights: Vec<WeightsFrom>,
    /// Write a Chrome trace of the second step, or of the only one: every op with its time, place and shapes
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `On`")]
    pub on: On,
}

/// `vjepa-run replay`.
#[derive(Clone, Debug, Args)]
pub struct Replay {
    /// A program compiled with `--taps`
    #[arg(value_name = "OUT.vjc")]
    pub program: PathBuf,
    /// Directory of the recording
    #[arg(long, value_name = "DIR")]
    pub golden: PathBuf,
    /// How many steps; without it all, and on `reference` those with recorded activations
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub steps: Option<usize>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `On`")]
    pub on: On,
}

/// `vjepa-run bench`.
#[derive(Clone, Debug, Args)]
pub struct Bench {
    /// A compiled program
    #[arg(value_name = "OUT.vjc")]
    pub program: PathBuf,
    /// Clips of a step; the program's if not given
    #[arg(long, value_name = "B", value_parser = at_least_one)]
    pub batch: Option<usize>,
    /// Measured steps
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least_one)]
    pub steps: usize,
    /// Take clips and masks of DIR/step.1.safetensors
    #[arg(long, value_name = "DIR")]
    pub inputs: Option<PathBuf>,
    /// Write a Chrome trace of one more step: every op with its time, place and shapes
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `On`")]
    pub on: On,
}

/// A number of bytes with a unit.
fn bytes(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "B" => Some(1usize),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        "TiB" => Some(1 << 40),
        _ => None,
    };
    let number: Option<usize> = digits.trim_end().parse().ok();
    let bytes = number.zip(unit).and_then(|(n, unit)| n.checked_mul(unit));
    bytes.ok_or_else(|| "expected a whole number and a unit, such as 512MiB or 4GiB".into())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("expected a whole number from 1".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn memory_has_a_unit() {
        assert_eq!(["2KiB", "3", "1GiB"].map(bytes), [Ok(2048), Ok(3), Ok(1 << 30)]);
        assert!(bytes("1GB").is_err() && bytes("GiB").is_err() && bytes("99999999999TiB").is_err());
    }

    #[test]
    fn wrong_usage_is_told() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("vjepa-run train a.vjc --data clips --out runs/a --steps 3").is_ok());
        for wrong in [
            "vjepa-run train a.vjc --data clips",
            "vjepa-run train a.vjc --data clips --out r --steps 0",
            "vjepa-run train a.vjc --data clips --out r --weights encoder",
            "vjepa-run bench a.vjc --threads 0",
            "vjepa-run bench a.vjc --backend gpu",
            "vjepa-run train a.vjc --data clips --out r --cache-memory 1GB",
        ] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }
}
