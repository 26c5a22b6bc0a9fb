//! Who runs a step: PyTorch in three ways, ours in two precisions.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::process;
use crate::settings::{Settings, Yardstick};
use crate::table::median;
use crate::workload::Workload;

/// PyTorch in bf16, or compiled, that takes more than this many times PyTorch's best is not run again: where a processor
/// lacks the instructions for bf16 it takes minutes a step. By feel: far beyond what differs from run to run.
const HOPELESS: f64 = 1.5;

/// Clips and masks of a step, as the yardstick writes and ours reads them.
const STEP: &str = "step.1.safetensors";

/// A program and its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The yardstick.
    Torch {
        /// Autocast to bf16, or f32.
        bf16: bool,
        /// With `torch.compile`.
        compiled: bool,
    },
    /// `vjepa-run bench`.
    Ours {
        /// Precision of the program.
        bf16: bool,
        /// With `--memory`: a share of what PyTorch took in the same precision.
        thrifty: bool,
    },
}

/// Everyone, the yardstick first.
const EVERYONE: [Who; 7] = [
    Who::Torch { bf16: false, compiled: false },
    Who::Torch { bf16: true, compiled: false },
    Who::Torch { bf16: true, compiled: true },
    Who::Ours { bf16: false, thrifty: false },
    Who::Ours { bf16: true, thrifty: false },
    Who::Ours { bf16: false, thrifty: true },
    Who::Ours { bf16: true, thrifty: true },
];

/// The share of PyTorch's memory that the thrifty are allowed, and what their process takes of it beside the step.
pub const THRIFT: f64 = 0.40;
const PROCESS: f64 = 100e6;

/// One run of a few steps.
#[derive(Clone, Debug)]
pub struct Run {
    /// Median of its steps.
    pub seconds: f64,
    /// Most resident bytes of the process.
    pub peak: Option<usize>,
    /// What it printed.
    pub found: Value,
}

/// Someone who takes part, and the runs so far.
pub struct Contender {
    /// Who it is.
    pub who: Who,
    /// In order.
    pub runs: Vec<Run>,
    /// Why it runs no more: it failed, or is hopeless.
    pub left_out: Option<String>,
}

/// Those who take part in a workload; our programs are compiled for it.
pub fn all(workload: &Workload, settings: &Settings) -> Result<Vec<Contender>, String> {
    let takes_part = |who: &Who| match who {
        Who::Torch { .. } => settings.yardstick.is_ok() && !workload.alone,
        Who::Ours { bf16, thrifty: false } => *bf16 || !workload.alone,
        Who::Ours { thrifty: true, .. } => settings.yardstick.is_ok() && workload.thrifty,
    };
    let _ = std::fs::remove_dir_all(settings.inputs(workload)); // those of an earlier yardstick, if there are any
    let mut contenders = Vec::new();
    for who in EVERYONE.into_iter().filter(takes_part) {
        let contender = Contender { who, runs: Vec::new(), left_out: None };
        if let Who::Ours { bf16, .. } = who {
            let mut compile = Command::new(settings.programs.join("vjepac"));
            let model = vjepa_tests::root().join("models/vjepa-vitl16.vjepa");
            compile.arg("compile").arg(model).args(workload.settings(precision(bf16)));
            compile.arg("-o").arg(contender.place(workload, settings, "vjc"));
            process::run(&mut compile, &contender.place(workload, settings, "compile.log"), settings.patience)?;
        }
        contenders.push(contender);
    }
    Ok(contenders)
}

impl Contender {
    /// For people.
    pub fn name(&self) -> &'static str {
        match self.who {
            Who::Torch { bf16: false, compiled: false } => "PyTorch f32",
            Who::Torch { bf16: true, compiled: false } => "PyTorch bf16",
            Who::Torch { bf16: false, compiled: true } => "PyTorch f32 compiled",
            Who::Torch { bf16: true, compiled: true } => "PyTorch bf16 compiled",
            Who::Ours { bf16: false, thrifty: false } => "ours f32",
            Who::Ours { bf16: true, thrifty: false } => "ours bf16",
            Who::Ours { bf16: false, thrifty: true } => "ours f32 --memory",
            Who::Ours { bf16: true, thrifty: true } => "ours bf16 --memory",
        }
    }

    /// Median seconds of a step; `None` if it never ran.
    pub fn seconds(&self) -> Option<f64> {
        median(self.runs.iter().map(|run| run.seconds))
    }

    /// Most bytes that were resident in any run.
    pub fn peak(&self) -> Option<usize> {
        self.runs.iter().filter_map(|run| run.peak).max()
    }

    /// Runs once more and returns the seconds of a step. Who fails is left out from then on. `limit` is what the thrifty
    /// may hold.
    pub fn run(&mut self, workload: &Workload, settings: &Settings, limit: Option<usize>) -> Option<f64> {
        match self.try_run(workload, settings, limit) {
            Ok(run) => {
                self.runs.push(run);
                self.runs.last().map(|run| run.seconds)
            }
            Err(reason) => {
                self.left_out = Some(reason);
                None
            }
        }
    }

    fn try_run(&self, workload: &Workload, settings: &Settings, limit: Option<usize>) -> Result<Run, String> {
        let mut command = match self.who {
            Who::Torch { bf16, compiled } => torch(settings.yardstick.as_ref()?, workload, settings, (bf16, compiled)),
            Who::Ours { thrifty: false, .. } => ours(&self.place(workload, settings, "vjc"), workload, settings),
            Who::Ours { thrifty: true, .. } => {
                let limit = limit.ok_or("PyTorch's memory in this precision is not known")?;
                let mut command = ours(&self.place(workload, settings, "vjc"), workload, settings);
                command.arg("--memory").arg(format!("{limit}B"));
                command
            }
        };
        let ran = process::run(&mut command, &self.place(workload, settings, "log"), settings.patience)?;
        if matches!(self.who, Who::Torch { .. }) && !settings.inputs(workload).join(STEP).exists() {
            return Err(format!("it wrote no {STEP} into {}", settings.inputs(workload).display()));
        }
        let document = match self.who {
            Who::Torch { .. } => ran.output.lines().next_back().unwrap_or(""),
            Who::Ours { .. } => &ran.output,
        };
        let found: Value = serde_json::from_str(document).map_err(|e| format!("{}: no result ({e})", self.name()))?;
        let seconds = found["seconds_a_step"].as_f64().ok_or_else(|| format!("{}: no time in {found}", self.name()))?;
        Ok(Run { seconds, peak: ran.peak, found })
    }

    /// A file of this contender.
    fn place(&self, workload: &Workload, settings: &Settings, ending: &str) -> PathBuf {
        settings.directory.join(format!("{}.{}.{ending}", workload.name, self.name().replace(' ', "-")))
    }
}

/// The yardstick's command line. Its clips and masks, the same in every run, go to the workload's directory.
fn torch(yardstick: &Yardstick, workload: &Workload, settings: &Settings, (bf16, compiled): (bool, bool)) -> Command {
    let mut command = Command::new(&yardstick.python);
    command.arg(&yardstick.script).arg("bench").args(workload.options());
    command.args(["--steps", &settings.steps.to_string(), "--threads", &settings.threads.to_string()]);
    command.args(["--dtype", precision(bf16)]);
    if compiled {
        command.arg("--compile");
    }
    command.arg("--out").arg(settings.inputs(workload));
    command
}

/// Our command line: on the yardstick's clips and masks if it has run.
fn ours(program: &Path, workload: &Workload, settings: &Settings) -> Command {
    let mut command = Command::new(settings.programs.join("vjepa-run"));
    command.arg("bench").arg(program).arg("--json");
    let steps = if workload.alone { 1 } else { settings.steps };
    command.args(["--steps", &steps.to_string(), "--threads", &settings.threads.to_string()]);
    let inputs = settings.inputs(workload);
    if inputs.join(STEP).exists() {
        command.arg("--inputs").arg(inputs);
    }
    command
}

/// What the thrifty may hold, if it is known what PyTorch holds in their precision.
pub fn limit(contenders: &[Contender], who: Who) -> Option<usize> {
    let Who::Ours { bf16, thrifty: true } = who else { return None };
    let torch = contenders.iter().find(|c| c.who == Who::Torch { bf16, compiled: false })?.peak()?;
    Some((THRIFT * torch as f64 - PROCESS).max(0.0) as usize)
}

fn precision(bf16: bool) -> &'static str {
    if bf16 { "bf16" } else { "f32" }
}

/// Leaves ways of PyTorch out of later rounds that are far behind its best. Its f32 stays: ours is compared with it.
pub fn leave_out_slow(contenders: &mut [Contender]) {
    let torch = contenders.iter().filter(|c| matches!(c.who, Who::Torch { .. }));
    let Some(best) = torch.filter_map(Contender::seconds).min_by(f64::total_cmp) else { return };
    for contender in contenders {
        let may_go = match contender.who {
            Who::Torch { bf16, compiled } => bf16 || compiled,
            Who::Ours { .. } => false,
        };
        if let Some(times) = contender.seconds().map(|s| s / best).filter(|times| may_go && *times > HOPELESS) {
            contender.left_out.get_or_insert(format!("{times:.1} times PyTorch's best, so run only once"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hopeless_ways_of_the_yardstick_are_left_out() {
        let mut contenders = EVERYONE.map(|who| Contender { who, runs: Vec::new(), left_out: None });
        for (contender, seconds) in contenders.iter_mut().zip([2.0, 1.0, 1.6, 4.0, 5.0, 9.0, 9.0]) {
            contender.runs.push(Run { seconds, peak: None, found: Value::Null });
        }
        leave_out_slow(&mut contenders);
        let out: Vec<&str> = contenders.iter().filter(|c| c.left_out.is_some()).map(Contender::name).collect();
        assert_eq!(out, ["PyTorch bf16 compiled"]);
    }
}
