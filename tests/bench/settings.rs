//! Settings from the environment.
//!
//! | variable | meaning |
//! |---|---|
//! | `PYTHON` | a Python with torch, numpy and safetensors; ours alone without it |
//! | `YARDSTICK` | the script it runs; the one beside the repository by default |
//! | `PAIRS` | rounds, 7 by default |
//! | `STEPS` | measured steps of a run, 3 by default |
//! | `THREADS` | threads of both, all processors by default |
//! | `PATIENCE` | minutes after which a run is given up, 10 by default |
//! | `ONLY` | names of workloads, separated by commas; all by default |

use std::path::PathBuf;
use std::time::Duration;

use crate::workload::{self, Workload};

/// What to measure, and how often.
pub struct Settings {
    /// The yardstick, or why there is none.
    pub yardstick: Result<Yardstick, String>,
    /// Rounds.
    pub pairs: usize,
    /// Measured steps of a run.
    pub steps: usize,
    /// Threads of both.
    pub threads: usize,
    /// Time after which a run is given up.
    pub patience: Duration,
    /// Where programs, inputs and results go.
    pub directory: PathBuf,
    /// Where `vjepac` and `vjepa-run` are.
    pub programs: PathBuf,
    only: Vec<String>,
}

/// PyTorch's training step.
pub struct Yardstick {
    /// The interpreter.
    pub python: String,
    /// The script.
    pub script: PathBuf,
}

impl Settings {
    /// Reads the environment.
    pub fn read() -> Result<Settings, String> {
        let only: Vec<String> = text("ONLY").unwrap_or_default().split(',').map(str::to_string).collect();
        let only: Vec<String> = only.into_iter().filter(|name| !name.is_empty()).collect();
        let known = || workload::ALL.iter().map(|w| w.name).collect::<Vec<_>>().join(", ");
        if let Some(name) = only.iter().find(|name| workload::ALL.iter().all(|w| w.name != **name)) {
            return Err(format!("ONLY={name}: expected some of {}", known()));
        }
        let exe = std::env::current_exe().map_err(|e| format!("this program's own path is unknown: {e}"))?;
        let programs = exe.parent().ok_or("this program lies in no directory")?.to_path_buf();
        let directory = programs.join("bench");
        std::fs::create_dir_all(&directory).map_err(|e| crate::process::io("create", &directory, &e))?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Settings {
            yardstick: yardstick(text("PYTHON"), text("YARDSTICK")),
            pairs: count("PAIRS", 7)?,
            steps: count("STEPS", 3)?,
            threads: count("THREADS", processors)?,
            patience: Duration::from_secs(60 * count("PATIENCE", 10)? as u64),
            directory,
            programs,
            only,
        })
    }

    /// Where the yardstick puts the clips and masks of a workload.
    pub fn inputs(&self, workload: &Workload) -> PathBuf {
        self.directory.join(workload.name)
    }

    /// True if a workload is to be measured.
    pub fn wants(&self, workload: &Workload) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == workload.name)
    }
}

fn yardstick(python: Option<String>, script: Option<String>) -> Result<Yardstick, String> {
    let python =
        python.ok_or("PYTHON is not set; `make bench PYTHON=...` with torch, numpy and safetensors compares")?;
    let script = script.map_or_else(|| vjepa_tests::root().join("../shared/reference/vjepa_torch.py"), PathBuf::from);
    match script.canonicalize() {
        Ok(script) => Ok(Yardstick { python, script }),
        Err(_) => Err(format!("the yardstick `{}` is not there; YARDSTICK=FILE names another", script.display())),
    }
}

/// A variable that is set and not empty.
fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn count(name: &str, usual: usize) -> Result<usize, String> {
    let Some(value) = text(name) else { return Ok(usual) };
    match value.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!("{name}={value}: expected a whole number from 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_yardstick_is_told() {
        let reason = |python: Option<&str>, script: &str| {
            yardstick(python.map(str::to_string), Some(script.to_string())).map(|_| ()).unwrap_err()
        };
        assert!(reason(None, "script.py").starts_with("PYTHON is not set"));
        assert!(reason(Some("python3"), "no/such.py").starts_with("the yardstick `no/such.py` is not there"));
    }
}
