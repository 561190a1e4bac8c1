//! The program's door: reads its arguments and its plan, refuses to run where it would do harm.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufReader, Read};
use std::process::ExitCode;

use crate::protocol::Plan;
use crate::run::Supervisor;
use crate::self_test;

/// Exit code for a plan or a call that makes no sense.
pub(crate) const USAGE: u8 = 64;
/// Exit code when the report reached nobody.
const UNREPORTED: u8 = 74;
/// A larger plan is no plan of ours, in bytes.
const MAX_PLAN: u64 = 4 << 20;

const HELP: &str = "\
millrace-supervisor: PID 1 of a Millrace sandbox

usage: millrace-supervisor PLAN.json

Runs the steps of the plan, writes their output to stdout and notices as JSON lines to stderr, and takes
orders as JSON lines on stdin, whose end means that the builder is gone. Exits with 0 when it could
report, whatever the steps did; with 64 when there is no valid plan. It runs as PID 1 of a container only:
at the end it kills every process it can see.";

/// Runs the program with its arguments, its own name left out.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<String> = arguments
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--help" | "-h"] => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        ["--version" | "-V"] => {
            println!("millrace-supervisor {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        ["selftest", mib] => self_test::run(mib),
        ["selftest-links", when] => self_test::links(when),
        [self_test::HOG, mib] => self_test::hog(mib),
        [plan] if !plan.starts_with('-') => supervise(plan),
        _ => refuse("expected the path of a plan; see --help"),
    }
}

fn supervise(path: &str) -> ExitCode {
    let plan = match read_plan(path) {
        Ok(plan) => plan,
        Err(error) => return refuse(&format!("cannot read the plan {path}: {error}")),
    };
    if std::process::id() != 1 {
        return refuse(
            "runs as PID 1 of a container only, because it ends by killing every process",
        );
    }
    match Supervisor::new(plan).map(Supervisor::run) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(UNREPORTED),
        Err(error) => {
            eprintln!("millrace-supervisor: cannot start: {error}");
            ExitCode::from(UNREPORTED)
        }
    }
}

fn read_plan(path: &str) -> Result<Plan, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let plan: Plan = serde_json::from_reader(BufReader::new(file.take(MAX_PLAN)))
        .map_err(|error| error.to_string())?;
    if plan.steps.is_empty() {
        return Err("it has no steps".to_owned());
    }
    match plan.steps.iter().find(|step| step.argv.is_empty()) {
        Some(step) => Err(format!("step {} has an empty argv", step.name)),
        None => Ok(plan),
    }
}

fn refuse(reason: &str) -> ExitCode {
    eprintln!("millrace-supervisor: {reason}");
    ExitCode::from(USAGE)
}
