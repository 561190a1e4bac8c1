//! Every row of the table.

pub(crate) mod observed;

use super::*;
use crate::mock::log_scan::LogScanner;
use millrace_supervisor::{LimitHit, StepReport};

const MIB: u64 = 1 << 20;

fn report(end: StepEnd, stage: &str) -> Report {
    Report {
        steps: vec![StepReport {
            name: "rebuild".to_owned(),
            end,
            start: "2026-01-01T00:00:00Z".to_owned(),
            seconds: 1.0,
        }],
        last_stage: Some(stage.to_owned()),
        peak_memory_bytes: 500 * MIB,
        ..Report::default()
    }
}

struct Case {
    ended: Ended,
    facts: LogFacts,
    repositories: Vec<RepositoryUrl>,
    cancelled: bool,
    packages_made: bool,
}

fn exit(code: i32, stage: &str) -> Case {
    ended_with(Some(report(StepEnd::Exit(code), stage)))
}

fn ended_with(report: Option<Report>) -> Case {
    Case {
        ended: Ended {
            exit_code: if report.is_some() { 0 } else { 137 },
            engine_oom_flag: false,
            report,
            was_overdue: false,
            stray: String::new(),
            lost_log_bytes: 0,
        },
        facts: LogFacts::default(),
        repositories: Vec::new(),
        cancelled: false,
        packages_made: true,
    }
}

impl Case {
    fn classify(&self) -> Outcome {
        classify(&Evidence {
            cancelled: self.cancelled,
            ended: &self.ended,
            facts: &self.facts,
            last_sample: Some(Sample {
                peak_memory_bytes: 77 * MIB,
                ..Sample::default()
            }),
            limits: Limits {
                memory_mib: 512,
                timeout_seconds: 60,
            },
            caps: SandboxCaps {
                silence_seconds: Some(5),
                disk_bytes: Some(100 * MIB),
                ..SandboxCaps::default()
            },
            repositories: &self.repositories,
            packages_made: self.packages_made,
        })
    }

    fn kind(&self) -> OutcomeKind {
        self.classify().kind
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn reported(self, change: impl FnOnce(&mut Report)) -> Self {
        self.with(|case| case.ended.report.as_mut().map(change).unwrap_or_default())
    }
}

#[test]
fn our_own_flags_come_before_the_exit_code() {
    let cancelled = exit(7, "build").with(|case| case.cancelled = true);
    assert_eq!(cancelled.kind(), OutcomeKind::Cancelled);
    let late = exit(7, "check").reported(|report| report.limit_hit = Some(LimitHit::Time));
    let outcome = late.classify();
    assert_eq!(outcome.kind, OutcomeKind::TimedOut);
    assert_eq!(outcome.stage, Some(Stage::Check));
    assert_eq!(
        outcome.limit.map(|limit| (limit.name, limit.value)),
        Some((LimitName::Timeout, 60))
    );
    let overdue = ended_with(None).with(|case| case.ended.was_overdue = true);
    assert_eq!(overdue.kind(), OutcomeKind::TimedOut);
}

#[test]
fn a_sandbox_that_lost_its_builder_or_was_ended_by_others_is_our_fault() {
    for case in [
        exit(7, "build").reported(|report| report.abandoned = true),
        exit(7, "build").reported(|report| report.cancelled = true),
        ended_with(None),
        ended_with(Some(Report::default())),
    ] {
        assert_eq!(case.kind(), OutcomeKind::SandboxFailed);
    }
}

#[test]
fn an_image_without_mock_is_our_fault_and_says_so() {
    let end = StepEnd::NotStarted("No such file or directory".to_owned());
    let outcome = ended_with(Some(report(end, "buildroot"))).classify();
    assert_eq!(outcome.kind, OutcomeKind::SandboxFailed);
    assert!(outcome.message.contains("No such file or directory"));
}

#[test]
fn success_needs_packages() {
    let outcome = exit(0, "package").classify();
    assert_eq!(
        (outcome.kind, outcome.stage, outcome.exit_code),
        (OutcomeKind::Succeeded, None, Some(0))
    );
    let empty = exit(0, "package").with(|case| case.packages_made = false);
    assert_eq!(empty.kind(), OutcomeKind::BuildFailed);
}

#[test]
fn a_tolerated_kill_is_a_success_with_a_note() {
    let outcome = exit(0, "package")
        .reported(|report| report.oom_kills = 2)
        .classify();
    assert_eq!(outcome.kind, OutcomeKind::Succeeded);
    assert_eq!(outcome.oom_kills, Some(2));
    assert!(outcome.message.contains("2 processes for lack of memory"));
}

#[test]
fn kills_for_lack_of_memory_come_before_the_exit_code() {
    for code in [1, 30, 137, 247] {
        let outcome = exit(code, "build")
            .reported(|report| report.oom_kills = 1)
            .classify();
        assert_eq!(outcome.kind, OutcomeKind::OutOfMemory, "{code}");
        assert_eq!(outcome.limit.map(|limit| limit.value), Some(512));
        assert_eq!(outcome.peak_memory_bytes, Some(500 * MIB));
        assert!(outcome.message.contains("the peak was 500 MiB"));
    }
    let killed = ended_with(None).with(|case| case.ended.engine_oom_flag = true);
    assert_eq!(killed.kind(), OutcomeKind::OutOfMemory);
}

#[test]
fn an_unusable_source_is_the_sources_fault() {
    assert_eq!(exit(40, "dependencies").kind(), OutcomeKind::SourceFailed);
    let unusable = |stage| exit(1, stage).with(|case| case.facts.source_unusable = true);
    assert_eq!(unusable("buildroot").kind(), OutcomeKind::SourceFailed);
    // A package that prints the words in its own build changes nothing.
    assert_eq!(unusable("build").kind(), OutcomeKind::BuildFailed);
}

#[test]
fn a_missing_dependency_is_named() {
    let outcome = exit(30, "dependencies")
        .with(|case| case.facts.missing_packages = vec!["libfoo-devel".to_owned()])
        .classify();
    assert_eq!(outcome.kind, OutcomeKind::DependencyFailed);
    assert!(outcome.message.contains("'libfoo-devel'"));
    assert_eq!(outcome.stage, Some(Stage::Dependencies));
    assert!(outcome.exit_text.unwrap().contains("30"));
    assert_eq!(
        exit(30, "prep").kind(),
        OutcomeKind::DependencyFailed,
        "dynamic requirements"
    );
}

#[test]
fn whose_repository_it_is_decides_whose_fault_it_is() {
    let extra: RepositoryUrl = "http://example.org/extra/$basearch/".parse().unwrap();
    let case = |id: &str| {
        let id = id.to_owned();
        exit(30, "dependencies").with(|case| {
            case.repositories = vec![extra.clone()];
            case.facts.failed_repository = Some(id);
        })
    };
    for id in ["example_org_extra_x86_64", "exampleorg_extra_x86_64_"] {
        let outcome = case(id).classify();
        assert_eq!(outcome.kind, OutcomeKind::DependencyFailed, "{id}");
        assert!(outcome.message.contains(extra.as_str()));
    }
    assert_eq!(case("fedora").kind(), OutcomeKind::RepositoryUnreachable);
    assert_eq!(
        exit(30, "buildroot").kind(),
        OutcomeKind::RepositoryUnreachable
    );
}

#[test]
fn a_failure_of_rpmbuild_is_the_packages_and_names_its_section() {
    for (stage, words) in [
        ("prep", "%prep"),
        ("build", "%build"),
        ("install", "%install"),
        ("check", "%check"),
        ("package", "packages"),
        ("dependencies", "spec"),
    ] {
        let outcome = exit(1, stage).classify();
        assert_eq!(outcome.kind, OutcomeKind::BuildFailed, "{stage}");
        assert!(outcome.message.contains(words), "{}", outcome.message);
    }
    assert_eq!(exit(10, "dependencies").kind(), OutcomeKind::BuildFailed);
    assert_eq!(exit(245, "build").kind(), OutcomeKind::BuildFailed);
    assert_eq!(exit(2, "build").kind(), OutcomeKind::BuildFailed);
    assert_eq!(exit(11, "build").kind(), OutcomeKind::TimedOut);
}

#[test]
fn what_the_package_cannot_cause_is_our_fault() {
    for code in [1, 2, 3, 5, 7, 32, 50, 60, 70, 137, 143] {
        assert_eq!(
            exit(code, "buildroot").kind(),
            OutcomeKind::SandboxFailed,
            "{code}"
        );
    }
    for code in [7, 60, 70, 137, 143] {
        assert_eq!(
            exit(code, "build").kind(),
            OutcomeKind::SandboxFailed,
            "{code}"
        );
    }
}

#[test]
fn each_limit_that_ended_a_run_is_named_with_its_value() {
    let silent = exit(7, "check").reported(|report| report.limit_hit = Some(LimitHit::Silence));
    let log = exit(7, "build").reported(|report| {
        report.limit_hit = Some(LimitHit::Log);
        report.log_bytes = 1025 * MIB;
    });
    let disk = exit(7, "install").reported(|report| {
        report.limit_hit = Some(LimitHit::Disk);
        report.disk_bytes = Some(130 * MIB);
    });
    for (case, kind, name, value, words) in [
        (
            silent,
            OutcomeKind::Silent,
            LimitName::Silence,
            5,
            "5 s in stage check",
        ),
        (
            log,
            OutcomeKind::LogTooLarge,
            LimitName::Log,
            1024,
            "1025 MiB in stage build",
        ),
        (
            disk,
            OutcomeKind::DiskFull,
            LimitName::Disk,
            100,
            "130 MiB of disk space in stage install",
        ),
    ] {
        let outcome = case.classify();
        assert_eq!(outcome.kind, kind);
        let limit = outcome.limit.unwrap();
        assert_eq!((limit.name, limit.value), (name, value));
        assert!(outcome.message.contains(words), "{}", outcome.message);
        assert!(outcome.first_error.is_none());
    }
}

#[test]
fn a_host_without_memory_or_disk_is_our_fault() {
    let starved = exit(1, "build").reported(|report| {
        report.oom_kills = 1;
        report.memory_limit_reached = Some(false);
    });
    assert_eq!(starved.kind(), OutcomeKind::SandboxFailed);
    let full = |free| {
        exit(1, "build")
            .with(|case| case.facts.no_space = true)
            .reported(|report| report.lowest_free_bytes = Some(free))
    };
    assert_eq!(full(MIB).kind(), OutcomeKind::BuilderDiskFull);
    // Words alone decide nothing: the package may have filled a file system of its own.
    assert_eq!(full(1 << 40).kind(), OutcomeKind::BuildFailed);
}

#[test]
fn a_run_without_a_report_has_the_use_of_its_last_sample() {
    let outcome = ended_with(None).classify();
    assert_eq!(outcome.peak_memory_bytes, Some(77 * MIB));
    let reported = exit(1, "build").classify();
    assert_eq!(reported.peak_memory_bytes, Some(500 * MIB));
}
