//! The program `millrace-builder`; all its code is in the library, where tests reach it.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    millrace_builder::run(&millrace_builder::Cli::parse())
}
