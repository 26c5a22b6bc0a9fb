//! The command line: `vjepac check | compile | explain | keys | settings | ir`.
//!
//! Scripts rely on it. Exit codes: 0 clean, 1 errors in the source, 2 usage. With `--json` standard output holds exactly
//! one JSON document, also when the source has errors; everything else goes to standard error.

mod check;
mod codes;
mod compile;
mod explain;
mod ir;
mod keys;
mod mask_statistics;
mod session;
mod settings;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use session::{Failure, Session};

/// Elaboration and the passes recurse over the model; the main thread's stack is not ours to choose.
const STACK: usize = 256 << 20;
/// Exit code for errors in the source.
const SOURCE_ERRORS: u8 = 1;
/// Exit code for a wrong command line.
const USAGE: u8 = 2;

/// Compiler for V-JEPA models written in .vjepa files.
#[derive(Parser)]
#[command(name = "vjepac", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Report everything that is wrong with a model, or with every model of a file.
    Check(Common),
    /// Write the program that `vjepa-run` trains.
    Compile {
        #[command(flatten)]
        common: Input,
        /// The file to write.
        #[arg(short, long, value_name = "OUT.vjc")]
        output: PathBuf,
        /// Keep the values of model-level calls and fields, for `vjepa-run replay`.
        #[arg(long)]
        taps: bool,
    },
    /// Describe a model, one of its parts, or an error code such as V0205.
    Explain {
        #[command(flatten)]
        common: Common,
        /// A part of the model such as `encoder.depth`.
        path: Option<String>,
        /// Trial draws of each mask; 0 for none.
        #[arg(long, default_value_t = 4000, value_name = "N")]
        draws: usize,
    },
    /// List the stored tensors: key, shape and kind.
    Keys(Common),
    /// List what `--set` can change, with values and where they come from.
    Settings(Common),
    /// Print what a stage makes of the model.
    Ir {
        #[command(flatten)]
        common: Input,
        /// One of parse, elaborate, init, draw, build, recognise, differentiate, optimise, update, metrics, backbone.
        #[arg(long, default_value = "optimise")]
        stage: String,
        /// Keep the values of model-level calls and fields.
        #[arg(long)]
        taps: bool,
    },
}

/// What every command takes.
#[derive(Args)]
struct Input {
    /// The file, and which of its models if it has several.
    #[arg(value_name = "FILE[:MODEL]")]
    target: String,
    /// Change a setting; may be given several times.
    #[arg(long = "set", value_name = "PATH=EXPR")]
    set: Vec<String>,
}

/// What every command that can answer in JSON takes.
#[derive(Args)]
struct Common {
    #[command(flatten)]
    input: Input,
    /// Print one JSON document on standard output.
    #[arg(long)]
    json: bool,
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let thread = std::thread::Builder::new().name("vjepac".into()).stack_size(STACK).spawn(move || run(cli.command));
    match thread.map(|t| t.join()) {
        Ok(Ok(code)) => code,
        Ok(Err(_)) => {
            eprintln!("compiler bug: please report the message above together with the .vjepa file");
            ExitCode::from(101)
        }
        Err(error) => {
            eprintln!("error: no thread could be started: {error}");
            ExitCode::from(USAGE)
        }
    }
}

fn run(command: Command) -> ExitCode {
    match command {
        Command::Check(Common { input, json }) => with_session(input, json, |s| check::run(s, json)),
        Command::Compile { common, output, taps } => with_session(common, false, |s| compile::run(s, &output, taps)),
        Command::Explain { common, path, draws } => match codes::find(&common.input.target) {
            Some(code) => {
                session::print(&codes::show(code, common.json));
                ExitCode::SUCCESS
            }
            None if codes::looks_like(&common.input.target) => {
                usage(&format!("there is no error code `{}`", common.input.target))
            }
            None => {
                let json = common.json;
                with_session(common.input, json, |s| explain::run(s, path.as_deref(), draws, json))
            }
        },
        Command::Keys(Common { input, json }) => with_session(input, json, |s| keys::run(s, json)),
        Command::Settings(Common { input, json }) => with_session(input, json, |s| settings::run(s, json)),
        Command::Ir { common, stage, taps } => with_session(common, false, |s| ir::run(s, &stage, taps)),
    }
}

/// Opens the file, runs a command on it and reports what went wrong.
fn with_session(input: Input, json: bool, command: impl FnOnce(&mut Session) -> Result<(), Failure>) -> ExitCode {
    let mut session = match Session::open(&input.target, &input.set) {
        Ok(session) => session,
        Err(failure) => return fail(failure, None, json),
    };
    match command(&mut session) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(failure, Some(&session), json),
    }
}

/// Says why a command did not do its work.
fn fail(failure: Failure, session: Option<&Session>, json: bool) -> ExitCode {
    match (failure, session) {
        (Failure::Usage(message), _) => return usage(&message),
        (Failure::File(message), _) => eprintln!("error: {message}"),
        (Failure::Source(found), Some(session)) if json => {
            session::print(&session::pretty(&vjepac::render::to_json(&session.sources, &found)));
        }
        (Failure::Source(found), Some(session)) => session.report(&found),
        (Failure::Source(_), None) => unreachable!("compiler bug: an error in a source that was not opened"),
    }
    ExitCode::from(SOURCE_ERRORS)
}

fn usage(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::from(USAGE)
}
