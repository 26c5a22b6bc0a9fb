//! Running a program to its end: what it printed, and the most memory it held.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use vjepa_run::bench::resident;

/// Time between two looks at the memory of a process. The system keeps the highest mark, so only what is added in the
/// last moments of a process can be missed, and steps are over by then.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A program that succeeded.
pub struct Ran {
    /// Its standard output.
    pub output: String,
    /// Most bytes that were resident, where the system tells.
    pub peak: Option<usize>,
}

/// Runs a program for at most `patience`; its messages go to `log`. An error names the program and its last message.
pub fn run(command: &mut Command, log: &Path, patience: Duration) -> Result<Ran, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let create = |path: &Path| std::fs::File::create(path).map_err(|e| io("write", path, &e));
    let printed = log.with_extension("out"); // a file, for a pipe that nobody empties may fill
    command.stdin(Stdio::null()).stdout(create(&printed)?).stderr(create(log)?);
    let mut child = command.spawn().map_err(|e| format!("cannot start `{program}`: {e}"))?;
    let (mut peak, start) = (None, Instant::now());
    let status = loop {
        peak = resident::peak_of(child.id()).or(peak);
        match child.try_wait().map_err(|e| format!("cannot wait for `{program}`: {e}"))? {
            Some(status) => break status,
            None if start.elapsed() > patience => {
                child.kill().and_then(|()| child.wait()).map_err(|e| format!("cannot stop `{program}`: {e}"))?;
                return Err(format!("not done after {} minutes", patience.as_secs() / 60));
            }
            None => std::thread::sleep(LOOK_EVERY),
        }
    };
    let text = |path: &Path| std::fs::read_to_string(path).map_err(|e| io("read", path, &e));
    if !status.success() {
        let said = text(log)?;
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        return Err(format!("`{program}` failed ({status}): {}; see {}", last.trim(), log.display()));
    }
    Ok(Ran { output: text(&printed)?, peak })
}

/// A failure to use a file.
pub fn io(what: &str, path: &Path, error: &std::io::Error) -> String {
    format!("cannot {what} `{}`: {error}", path.display())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(line: &str, patience: Duration) -> Result<Ran, String> {
        let dir = vjepa_tests::scratch();
        run(Command::new("sh").args(["-c", line]), &dir.path().join("run.log"), patience)
    }

    #[test]
    fn output_and_failure_are_told() {
        let told = |line, patience| shell(line, patience).map(|ran| ran.output);
        let long = Duration::from_secs(60);
        assert_eq!(told("echo one; echo two", long).unwrap(), "one\ntwo\n");
        assert_eq!(told("exec sleep 60", Duration::ZERO).unwrap_err(), "not done after 0 minutes");
        let error = told("echo reading >&2; echo no such thing >&2; exit 3", long).unwrap_err();
        assert!(error.starts_with("`sh` failed (exit status: 3): no such thing; see "), "{error}");
    }
}
