//! The program's entry: reads arguments and plan, and refuses to run anywhere but as PID 1 of a container.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufReader, Read};
use std::process::ExitCode;

use crate::exit_codes::{UNREPORTED, USAGE};
use crate::protocol::Plan;
use crate::run::Supervisor;
use crate::self_test;

/// Largest plan that is read, in bytes.
const MAX_PLAN: u64 = 4 << 20;

const HELP: &str = "\
millrace-supervisor: PID 1 of a Millrace sandbox

usage: millrace-supervisor PLAN.json

Runs the steps of the plan, writes their output to stdout and notices as JSON lines to stderr, and takes
commands as JSON lines on stdin, whose end means that the builder is gone. Exits with 0 when it could
report, whatever the steps did; with 64 when there is no valid plan. It runs as PID 1 of a container only:
at the end it kills every process it can see.";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Call<'a> {
    Help,
    Version,
    /// Runs the plan in this file.
    Supervise(&'a str),
    /// Tests limits and devices; the hog touches this many MiB.
    SelfTest(&'a str),
    /// Tests the network links, `before` or `after` a cut.
    SelfTestLinks(&'a str),
    /// Touches this many MiB: the child of [`Call::SelfTest`].
    Hog(&'a str),
}

impl<'a> Call<'a> {
    /// None where the arguments are none of these.
    fn parse(arguments: &[&'a str]) -> Option<Self> {
        Some(match arguments {
            ["--help" | "-h"] => Self::Help,
            ["--version" | "-V"] => Self::Version,
            ["selftest", mib] => Self::SelfTest(mib),
            ["selftest-links", when] => Self::SelfTestLinks(when),
            [self_test::HOG, mib] => Self::Hog(mib),
            [plan] if !plan.is_empty() && !plan.starts_with('-') => Self::Supervise(plan),
            _ => return None,
        })
    }
}

/// Runs the program with its arguments, its own name left out.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<String> = arguments
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match Call::parse(&arguments) {
        Some(Call::Help) => print(HELP),
        Some(Call::Version) => print(concat!("millrace-supervisor ", env!("CARGO_PKG_VERSION"))),
        Some(Call::Supervise(plan)) => supervise(plan),
        Some(Call::SelfTest(mib)) => self_test::run(mib),
        Some(Call::SelfTestLinks(when)) => self_test::links(when),
        Some(Call::Hog(mib)) => self_test::hog(mib),
        None => refuse("expected the path of a plan; see --help"),
    }
}

fn print(text: &str) -> ExitCode {
    println!("{text}");
    ExitCode::SUCCESS
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
    parse_plan(BufReader::new(file.take(MAX_PLAN)))
}

/// A plan that can be run: it has steps, and each names a program.
fn parse_plan(text: impl Read) -> Result<Plan, String> {
    let plan: Plan = serde_json::from_reader(text).map_err(|error| error.to_string())?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn text(code: ExitCode) -> String {
        format!("{code:?}")
    }

    fn call(arguments: &[&str]) -> ExitCode {
        run(arguments.iter().map(OsString::from))
    }

    #[test]
    fn every_call_is_told_apart() {
        for (arguments, wanted) in [
            (&["--help"][..], Some(Call::Help)),
            (&["-h"], Some(Call::Help)),
            (&["--version"], Some(Call::Version)),
            (&["-V"], Some(Call::Version)),
            (
                &["/millrace/plan.json"],
                Some(Call::Supervise("/millrace/plan.json")),
            ),
            (&["selftest"], Some(Call::Supervise("selftest"))),
            (&["selftest", "128"], Some(Call::SelfTest("128"))),
            (
                &["selftest-links", "after"],
                Some(Call::SelfTestLinks("after")),
            ),
            (&["selftest-hog", "128"], Some(Call::Hog("128"))),
            (&[], None),
            (&[""], None),
            (&["--verbose"], None),
            (&["-"], None),
            (&["plan.json", "plan.json"], None),
            (&["--help", "me"], None),
            (&["selftest", "128", "256"], None),
        ] {
            assert_eq!(Call::parse(arguments), wanted, "{arguments:?}");
        }
    }

    #[test]
    fn help_and_version_succeed_and_anything_unknown_is_a_usage_error() {
        assert_eq!(text(call(&["--help"])), text(ExitCode::SUCCESS));
        assert_eq!(text(call(&["-V"])), text(ExitCode::SUCCESS));
        assert_eq!(text(call(&[])), text(ExitCode::from(USAGE)));
        assert_eq!(text(call(&["--plan"])), text(ExitCode::from(USAGE)));
        assert_eq!(
            text(call(&["/nonexistent/plan"])),
            text(ExitCode::from(USAGE))
        );
        assert!(HELP.contains("usage: millrace-supervisor PLAN.json"));
    }

    #[test]
    fn outside_of_a_container_a_valid_plan_is_not_run() {
        let path = std::env::temp_dir().join(format!("millrace-plan-{}", std::process::id()));
        let plan = r#"{"steps":[{"name":"a","argv":["/bin/false"]}],"wall_limit_seconds":1}"#;
        std::fs::write(&path, plan).unwrap();
        let plan = path.to_str().unwrap().to_owned();
        let (read, code) = (read_plan(&plan), call(&[&plan]));
        std::fs::remove_file(&path).unwrap();
        assert!(read.is_ok());
        assert_eq!(text(code), text(ExitCode::from(USAGE)));
    }

    #[test]
    fn a_plan_that_cannot_be_run_says_why() {
        let reason = |text: &str| parse_plan(text.as_bytes()).unwrap_err();
        assert!(reason("").contains("EOF"));
        assert!(reason("{}").contains("missing field `steps`"));
        assert_eq!(
            reason(r#"{"steps":[],"wall_limit_seconds":1}"#),
            "it has no steps"
        );
        let empty = r#"{"steps":[{"name":"a","argv":["x"]},{"name":"b","argv":[]}],"wall_limit_seconds":1}"#;
        assert_eq!(reason(empty), "step b has an empty argv");
    }
}
