//! The builder; everything is in the library.

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
