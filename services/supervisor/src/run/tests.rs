//! A whole supervisor on pipes of the test: steps of the machine's own shell, and everything but signals, which only PID 1
//! sends. One at a time, since a supervisor reaps every child of its process.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::enforce::next_sample_in;
use super::*;
use crate::protocol::{LimitHit, LogCaps, Report, Rounds};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The builder's end of a supervisor, and a folder for its files.
struct Builder {
    home: PathBuf,
    commands: UnixStream,
    log: JoinHandle<Vec<u8>>,
    notices: JoinHandle<Vec<Notice>>,
    _one: MutexGuard<'static, ()>,
}

fn step(name: &str, script: &str) -> Step {
    Step {
        name: name.into(),
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        arguments_from: None,
        env: Vec::new(),
        stage: None,
        network: None,
        rounds: None,
    }
}

/// A supervisor with these steps; its plan may be changed before it starts.
fn supervisor(
    name: &str,
    steps: Vec<Step>,
    change: impl FnOnce(&mut Plan),
) -> (Supervisor, Builder) {
    let one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let home = std::env::temp_dir().join(format!("millrace-run-{name}-{}", std::process::id()));
    fs::create_dir_all(&home).unwrap();
    let mut plan = Plan::new(steps, 30);
    plan.result_dir = home.join("results").display().to_string();
    plan.report_path = home.join("report.json").display().to_string();
    change(&mut plan);
    let pair = || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (File::from(OwnedFd::from(ours)), theirs)
    };
    let (commands, builders_commands) = pair();
    let (log, mut builders_log) = pair();
    let (notices, builders_notices) = pair();
    let streams = Streams {
        commands,
        log,
        notices,
    };
    let builder = Builder {
        home,
        commands: builders_commands,
        log: thread::spawn(move || {
            let mut text = Vec::new();
            builders_log.read_to_end(&mut text).unwrap();
            text
        }),
        notices: thread::spawn(move || {
            BufReader::new(builders_notices)
                .lines()
                .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
                .collect()
        }),
        _one: one,
    };
    (Supervisor::with_streams(plan, streams).unwrap(), builder)
}

impl Builder {
    /// What came out of a supervisor that has ended: the log, all notices but samples, and the report in its file.
    fn output(self) -> (String, Vec<Notice>, Report) {
        let log = String::from_utf8(self.log.join().unwrap()).unwrap();
        let mut notices = self.notices.join().unwrap();
        notices.retain(|notice| !matches!(notice, Notice::Sample(_)));
        let text = fs::read(self.home.join("report.json")).unwrap();
        fs::remove_dir_all(&self.home).unwrap();
        (log, notices, serde_json::from_slice(&text).unwrap())
    }
}

#[test]
fn steps_run_in_order_until_one_fails_and_the_report_names_them() {
    let steps = vec![
        step("first", "echo to stdout; echo Start: run >&2"),
        step("second", "echo \"$GREETING $OWN\"; exit 30"),
        step("third", "echo never"),
    ];
    let (supervisor, builder) = supervisor("order", steps, |plan| {
        plan.env = vec![("GREETING".into(), "hello".into())];
        plan.steps[1].env = vec![("OWN".into(), "world".into())];
        plan.steps[1].stage = Some("build".into());
    });
    let results = builder.home.join("results");
    assert!(supervisor.run());
    assert!(results.is_dir());
    let (log, notices, report) = builder.output();
    assert!(
        log.contains("to stdout\n") && log.ends_with("hello world\n"),
        "{log}"
    );
    assert!(!log.contains("never"));
    let ends: Vec<&StepEnd> = report.steps.iter().map(|step| &step.end).collect();
    assert_eq!(ends, [&StepEnd::Exit(0), &StepEnd::Exit(30)]);
    assert_eq!(report.exit_code(), Some(30));
    let stages: Vec<&str> = report
        .stages
        .iter()
        .map(|mark| mark.stage.as_str())
        .collect();
    assert_eq!(stages, ["buildroot", "build"]);
    assert_eq!(report.last_stage.as_deref(), Some("build"));
    assert_eq!(
        (report.log_bytes, report.log_bytes_unread),
        (log.len() as u64, 0)
    );
    assert!(report.limit_hit.is_none() && !report.cancelled && !report.abandoned);
    assert!(matches!(&notices[0], Notice::StepStarted { name, .. } if name == "first"));
    assert_eq!(notices.last(), Some(&Notice::Report(Box::new(report))));
}

#[test]
fn a_step_that_cannot_start_is_reported_and_said_in_the_log() {
    let mut missing = step("missing", "");
    missing.argv = vec!["/nonexistent/program".into()];
    let mut arguments = step("arguments", "true");
    arguments.arguments_from = Some("/nonexistent/arguments".into());
    for bad in [missing, arguments] {
        let name = bad.name.clone();
        let (supervisor, builder) = supervisor("missing", vec![bad], |_| {});
        assert!(supervisor.run());
        let (log, _, report) = builder.output();
        let said = format!("millrace: step {name} was not started: ");
        assert!(log.starts_with(&said), "{log}");
        assert!(matches!(&report.steps[0].end, StepEnd::NotStarted(_)));
        assert_eq!(report.exit_code(), None);
    }
}

#[test]
fn arguments_that_an_earlier_step_left_are_given_to_the_next() {
    let (supervisor, builder) = supervisor("arguments", Vec::new(), |_| {});
    drop(supervisor);
    drop(builder.output_without_report());
    let list = std::env::temp_dir().join(format!("millrace-list-{}", std::process::id()));
    let mut second = step("second", "echo \"got $0 $1\"");
    second.arguments_from = Some(list.display().to_string());
    let first = step(
        "first",
        &format!("printf 'one\\ntwo words\\n' > {}", list.display()),
    );
    let (supervisor, builder) = self::supervisor("arguments", vec![first, second], |_| {});
    assert!(supervisor.run());
    fs::remove_file(&list).unwrap();
    let (log, ..) = builder.output();
    assert_eq!(log, "got one two words\n");
}

impl Builder {
    /// For a supervisor that was never run.
    fn output_without_report(self) -> Vec<u8> {
        fs::remove_dir_all(&self.home).unwrap();
        self.log.join().unwrap()
    }
}

#[test]
fn a_cancel_ends_the_steps_and_is_reported() {
    // Nothing is signalled here, so the step runs to its end, within the grace.
    let steps = vec![step("first", "sleep 1"), step("second", "echo never")];
    let (supervisor, mut builder) = supervisor("cancel", steps, |plan| {
        plan.cancel_grace_seconds = 20;
    });
    builder
        .commands
        .write_all(b"{\"order\":\"cancel\"}\n")
        .unwrap();
    assert!(supervisor.run());
    let (log, _, report) = builder.output();
    assert!(report.cancelled && !report.abandoned && !report.is_clean());
    assert_eq!(report.steps.len(), 1);
    assert!(
        log.contains("millrace: cancelled, interrupting all processes\n"),
        "{log}"
    );
}

#[test]
fn a_builder_that_is_gone_ends_everything_and_the_report_waits_in_its_file() {
    let steps = vec![step("first", "sleep 1"), step("second", "echo never")];
    let (supervisor, builder) = supervisor("gone", steps, |_| {});
    builder.commands.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(supervisor.run());
    let (log, _, report) = builder.output();
    assert!(report.abandoned && !report.cancelled);
    assert_eq!((report.steps.len(), log.as_str()), (1, ""));
}

#[test]
fn the_middle_of_a_long_log_is_left_out_and_marks_follow_their_lines() {
    let script = "echo Executing\\(%prep\\): x; yes 0123456789 | head -c 100000; echo; echo Executing\\(%build\\): x";
    let (supervisor, builder) = supervisor("log", vec![step("first", script)], |plan| {
        plan.log = LogCaps {
            head_bytes: 1000,
            tail_bytes: 1000,
            hard_bytes: 1 << 30,
        };
    });
    assert!(supervisor.run());
    let (log, _, report) = builder.output();
    assert!(log.len() < 2200 && log.contains("bytes of the log were left out here"));
    assert!(report.log_bytes > 100_000);
    for (mark, line) in report
        .stages
        .iter()
        .zip(["Executing(%prep)", "Executing(%build)"])
    {
        let at = usize::try_from(mark.log_offset).unwrap();
        assert!(log[at..].starts_with(line), "{}", &log[at..]);
    }
    assert_eq!(report.stages.len(), 2);
}

#[test]
fn a_log_beyond_its_hard_limit_is_closed_with_the_reason() {
    let script = "yes 0123456789 | head -c 300000; sleep 1; echo late";
    let (supervisor, builder) = supervisor("hard", vec![step("first", script)], |plan| {
        plan.cancel_grace_seconds = 20;
        plan.log.hard_bytes = 100_000;
    });
    assert!(supervisor.run());
    let (log, _, report) = builder.output();
    assert_eq!(report.limit_hit, Some(LimitHit::Log));
    assert!(!log.contains("late"));
    assert!(
        log.ends_with("interrupting all processes\n"),
        "{}",
        &log[log.len() - 80..]
    );
}

#[test]
fn silence_is_a_limit_of_its_own() {
    let script = "echo begun; sleep 2";
    let (supervisor, builder) = supervisor("silence", vec![step("first", script)], |plan| {
        plan.timeout_grace_seconds = 20;
        plan.silence_limit_seconds = Some(1);
    });
    assert!(supervisor.run());
    let (log, _, report) = builder.output();
    assert_eq!(report.limit_hit, Some(LimitHit::Silence));
    assert!(
        log.contains("millrace: no output for 1 s, the limit on silence"),
        "{log}"
    );
}

#[test]
fn a_step_that_lacks_requirements_runs_again_until_it_leaves_none() {
    let home = std::env::temp_dir().join(format!("millrace-rounds-of-{}", std::process::id()));
    fs::create_dir_all(&home).unwrap();
    let mut build = step("build", "echo building; exit 11");
    build.rounds = Some(Rounds {
        exit_codes: vec![11],
        folder: home.display().to_string(),
        suffix: ".nosrc.rpm".into(),
        install: Box::new(step("install", "echo installing")),
        at_most: 10,
    });
    let (supervisor, builder) = supervisor("rounds", vec![build], |_| {});
    assert!(supervisor.run());
    fs::remove_dir_all(&home).unwrap();
    let (log, _, report) = builder.output();
    assert_eq!((log.as_str(), report.rounds), ("building\n", 0));
    assert_eq!(report.exit_code(), Some(11));
}

#[test]
fn a_report_that_reaches_neither_file_nor_reader_is_a_failure() {
    let (supervisor, builder) = supervisor("unread", vec![step("first", "true")], |plan| {
        plan.report_path = "/nonexistent/report.json".into();
    });
    assert!(supervisor.run(), "its reader has it");
    assert!(matches!(
        builder.notices.join().unwrap().last(),
        Some(Notice::Report(_))
    ));
    fs::remove_dir_all(&builder.home).unwrap();
}

#[test]
fn samples_come_faster_the_nearer_the_limit_is() {
    let plain = Duration::from_millis(250);
    let gib = 1 << 30;
    assert_eq!(next_sample_in(plain, 5 * gib, None), plain);
    assert_eq!(next_sample_in(plain, gib, Some(64 * gib)), plain);
    assert_eq!(next_sample_in(plain, 20 * gib, Some(64 * gib)), plain / 10);
    let small = next_sample_in(plain, 0, Some(64 << 20));
    assert_eq!(
        small,
        Duration::from_millis(10),
        "a small limit is hit at once"
    );
    let middle = next_sample_in(plain, 0, Some(gib));
    assert!(middle > small && middle < plain, "{middle:?}");
}
