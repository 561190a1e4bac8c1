//! PID 1 of a sandbox; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    millrace_supervisor::run(std::env::args_os().skip(1))
}
