//! Times our training step beside PyTorch's, in pairs on the same clips, masks and threads, and prints how the two compare
//! with what is aimed at. `make bench` runs it; `make test` does not.
//!
//! Settings are environment variables, so that `make bench NAME=VALUE` sets them: see `settings`. The yardstick is a script
//! beside the repository; without it, or without a Python for it, our own step is measured alone.

mod contender;
mod process;
mod rows;
mod settings;
mod table;
mod workload;

use std::process::ExitCode;

use contender::Contender;
use settings::Settings;
use table::Results;
use workload::Workload;

fn main() -> ExitCode {
    match suite() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
    }
}

fn suite() -> Result<(), String> {
    let settings = Settings::read()?;
    match &settings.yardstick {
        Ok(yardstick) => println!("beside {} run by {}", yardstick.script.display(), yardstick.python),
        Err(reason) => println!("ours alone, on clips of noise and masks of our own drawing: {reason}"),
    }
    println!("{} threads, {} pairs of {} steps, medians\n", settings.threads, settings.pairs, settings.steps);
    let mut results = Results::default();
    for workload in workload::ALL.iter().filter(|w| settings.wants(w)) {
        let contenders = measure(workload, &settings)?;
        println!("{}", table::measured(workload, &contenders));
        results.add(workload, contenders);
    }
    println!("{}", table::compared(&rows::rows(&results)));
    let path = settings.directory.join("results.json");
    std::fs::write(&path, format!("{:#}\n", results.json())).map_err(|e| process::io("write", &path, &e))?;
    println!("every run: {}", path.display());
    results.failure().map_or(Ok(()), Err)
}

/// Runs all contenders in turn, round after round: forwards, then backwards, so that whatever drifts meets all alike.
fn measure(workload: &Workload, settings: &Settings) -> Result<Vec<Contender>, String> {
    let mut contenders = contender::all(workload, settings)?;
    let rounds = if workload.alone { 1 } else { settings.pairs };
    for round in 0..rounds {
        // The yardstick comes first in the first round: it draws the clips and masks that ours reads.
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for i in order {
            let limit = contender::limit(&contenders, contenders[i].who);
            let contender = &mut contenders[i];
            if contender.left_out.is_some() {
                continue;
            }
            let seconds = contender.run(workload, settings, limit);
            let seconds = seconds.map_or("failed".to_string(), |s| format!("{s:.3} s a step"));
            eprintln!("{}, round {} of {rounds}: {} {seconds}", workload.name, round + 1, contender.name());
        }
        contender::leave_out_slow(&mut contenders);
    }
    Ok(contenders)
}
