//! The program `millrace-builder`; all its code is in the library, where tests reach it.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match millrace_builder::execute(&millrace_builder::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("millrace-builder: {error:#}");
            ExitCode::FAILURE
        }
    }
}
