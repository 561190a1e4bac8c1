//! The builder, which dies at the crash point that `MILLRACE_CRASH_AT` names.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    millrace_test_programs::arm();
    millrace_builder::run(&millrace_builder::Cli::parse())
}
