//! The builder, which dies at the crash point that `MILLRACE_CRASH_AT` names.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    millrace_test_programs::arm();
    match millrace_builder::execute(&millrace_builder::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("millrace-builder: {error:#}");
            ExitCode::FAILURE
        }
    }
}
