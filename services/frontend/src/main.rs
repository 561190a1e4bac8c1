//! The frontend of Millrace; see `--help`.

use std::process::ExitCode;

use clap::Parser;
use millrace_frontend::Cli;

fn main() -> ExitCode {
    millrace_frontend::run(Cli::parse())
}
