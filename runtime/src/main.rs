//! Command line of the runtime: trains, replays and times compiled programs.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use vjepa_run::error::{Error, Result};
use vjepa_run::settings::{self, Cli, Command};
use vjepa_run::{bench, replay, train};
use vjepac::program::Program;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Train(settings) => run_train(&settings),
        Command::Replay(settings) => run_replay(&settings),
        Command::Bench(settings) => run_bench(&settings),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.status())
        }
    }
}

fn run_train(settings: &settings::Train) -> Result<bool> {
    let (program, bytes) = read(&settings.program)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // A second signal ends the program at once; registered first, for the first signal must not see its own mark.
        signal_hook::flag::register_conditional_shutdown(signal, 1, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .map_err(|e| Error::failed(format!("cannot listen to signals: {e}")))?;
    }
    let summary = train::command::train(program, &bytes, settings, &stop)?;
    let place = summary.directory;
    let what = if summary.stopped { "stopped at" } else { "trained to" };
    say(&format!("{what} step {} of {}", summary.step, summary.steps));
    say(&format!("  checkpoint      {}", summary.checkpoint.display()));
    say(&format!("  metrics         {}", place.metrics().display()));
    say(&format!("  resolved model  {}", place.resolved().display()));
    Ok(true)
}

fn run_replay(settings: &settings::Replay) -> Result<bool> {
    let (program, _) = read(&settings.program)?;
    let request = replay::Request { golden: settings.golden.clone(), how: settings.on.how(), steps: settings.steps };
    let found = replay::replay(program, &request, |step| {
        if !settings.json {
            say(&step.text());
        }
    })?;
    if settings.json {
        print_json(&found);
    } else {
        say(&found.text());
    }
    Ok(found.ok)
}

fn run_bench(settings: &settings::Bench) -> Result<bool> {
    let (program, _) = read(&settings.program)?;
    let request = bench::Request {
        batch: settings.batch,
        steps: settings.steps,
        how: settings.on.how(),
        inputs: settings.inputs.clone(),
        trace: settings.trace.clone(),
    };
    let found = bench::bench(program, &request)?;
    if settings.json {
        print_json(&found);
    } else {
        say(&found.text());
    }
    Ok(true)
}

fn read(path: &Path) -> Result<(Arc<Program>, Vec<u8>)> {
    let bytes = std::fs::read(path).map_err(|e| {
        let error = Error::io("read", path, e);
        Error::failed(format!("{error}; make it with `vjepac compile MODEL.vjepa -o {}`", path.display()))
    })?;
    let program = Program::read(&bytes).map_err(|e| Error::failed(format!("`{}`: {e}", path.display())))?;
    Ok((Arc::new(program), bytes))
}

fn print_json(value: &impl serde::Serialize) {
    say(&serde_json::to_string_pretty(value).expect("compiler bug: a result that is no JSON"));
}

/// A line on standard output. A reader that has gone away (`| head`) is no error.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
