//! Command line of the compiler; see [`cli`].

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
