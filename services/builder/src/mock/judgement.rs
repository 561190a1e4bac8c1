//! Judges a run of mock. The exit code alone does not classify, so the order is:
//!
//! | first that holds | outcome |
//! | --- | --- |
//! | we cancelled it | `cancelled` |
//! | the wall limit was hit, by the supervisor's word or because it had to be ended from outside | `timed_out` |
//! | the sandbox lost its builder | `sandbox_failed` |
//! | mock could not be started | `sandbox_failed` |
//! | exit 0, packages | `succeeded`, with a note when a process was killed for want of memory |
//! | exit 0, no packages | `build_failed` |
//! | a process was killed for want of memory, or the engine says so | `out_of_memory` |
//! | no report: PID 1 was killed from outside | `sandbox_failed` |
//! | 40, or the log calls the source unusable | `source_failed` |
//! | 30, the extra repository or a package is missing | `dependency_failed` |
//! | 30, the chroot's own repository; 30 in chroot init | `repository_unreachable` |
//! | 10, 11, rpmbuild's own signal | `build_failed`, `timed_out`, `build_failed` |
//! | 1 or unknown, from the build's setup on | `build_failed` |
//! | everything else: 2, 3, 5, 7, 32, 50, 60, 70, 137, 143, or a failure before the setup | `sandbox_failed` |
//!
//! A process that was killed for want of memory earlier, and tolerated, may precede another failure; that failure
//! is then called `out_of_memory` too, since nothing tells the two apart. Disk, silence, log size and excluded
//! architectures have no row yet.

use millrace_domain::{Limit, LimitName, Limits, Outcome, OutcomeKind, RepositoryUrl, Stage, Unit};
use millrace_sandbox::Ended;
use millrace_supervisor::{Report, StepEnd};

use super::LogFacts;
use super::exit_code;

const MIB: u64 = 1 << 20;

/// Everything that a judgement looks at.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The requester's cancel was carried out.
    pub cancelled: bool,
    /// How the sandbox ended, with the supervisor's last word.
    pub ended: &'a Ended,
    /// What the log told.
    pub facts: &'a LogFacts,
    /// The package's limits.
    pub limits: Limits,
    /// Extra repositories of the build.
    pub repositories: &'a [RepositoryUrl],
    /// Binary packages came out of the sandbox.
    pub packages_made: bool,
}

/// What was found, before usage is added.
struct Finding {
    kind: OutcomeKind,
    message: String,
    limit: Option<Limit>,
}

impl Finding {
    fn new(kind: OutcomeKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            limit: None,
        }
    }

    fn hit(mut self, name: LimitName, value: u32, unit: Unit) -> Self {
        self.limit = Some(Limit {
            name,
            value: value.into(),
            unit,
        });
        self
    }
}

/// How the run ended, with all its usage.
pub fn judge(evidence: &Evidence<'_>) -> Outcome {
    let finding = find(evidence);
    let mut outcome = Outcome::new(finding.kind, finding.message);
    outcome.limit = finding.limit;
    if finding.kind != OutcomeKind::Succeeded {
        outcome.stage = last_stage(evidence);
        if finding.kind != OutcomeKind::Cancelled && finding.kind != OutcomeKind::TimedOut {
            outcome.first_error.clone_from(&evidence.facts.first_error);
        }
    }
    add_usage(&mut outcome, evidence);
    outcome
}

fn find(evidence: &Evidence<'_>) -> Finding {
    if evidence.cancelled {
        return Finding::new(OutcomeKind::Cancelled, "cancelled on request");
    }
    let ended = evidence.ended;
    match &ended.report {
        Some(report) => find_in_report(evidence, report),
        None if ended.was_overdue => timed_out(evidence),
        None if ended.engine_oom_flag => out_of_memory(evidence, None),
        None => Finding::new(OutcomeKind::SandboxFailed, ended_from_outside(ended)),
    }
}

fn ended_from_outside(ended: &Ended) -> String {
    let code = ended.exit_code;
    match ended.stray.trim() {
        "" => format!("the sandbox was ended from outside (exit code {code})"),
        stray => {
            let stray: String = stray
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .take(300)
                .collect();
            format!("the sandbox ended without a report (exit code {code}): {stray}")
        }
    }
}

fn find_in_report(evidence: &Evidence<'_>, report: &Report) -> Finding {
    let failed = |message: String| Finding::new(OutcomeKind::SandboxFailed, message);
    if report.timed_out {
        return timed_out(evidence);
    }
    if report.abandoned {
        return failed("the sandbox lost its builder and ended itself".to_owned());
    }
    if report.cancelled {
        return failed("the sandbox was told to end by somebody else than its builder".to_owned());
    }
    if let Some(StepEnd::NotStarted(reason)) = report.steps.last().map(|step| &step.end) {
        return failed(format!(
            "mock could not be started in the chroot's image: {reason}"
        ));
    }
    let Some(code) = report.exit_code() else {
        return failed("the sandbox ran nothing".to_owned());
    };
    if code == 0 {
        return clean_exit(evidence, report);
    }
    if report.oom_kills > 0 || evidence.ended.engine_oom_flag {
        return out_of_memory(evidence, Some(report));
    }
    by_exit_code(evidence, code)
}

fn clean_exit(evidence: &Evidence<'_>, report: &Report) -> Finding {
    if !evidence.packages_made {
        return Finding::new(
            OutcomeKind::BuildFailed,
            "mock succeeded, but there are no packages; does the spec have a %files section?",
        );
    }
    if report.oom_kills > 0 || evidence.ended.engine_oom_flag {
        return Finding::new(
            OutcomeKind::Succeeded,
            format!(
                "built, but the kernel killed {} for want of memory on the way, and the package tolerated it; \
                 the limit is {} MiB",
                processes(report.oom_kills),
                evidence.limits.memory_mib
            ),
        );
    }
    Finding::new(OutcomeKind::Succeeded, "built")
}

fn timed_out(evidence: &Evidence<'_>) -> Finding {
    let limit = evidence.limits.timeout_seconds;
    let stage = last_stage(evidence).map_or(String::new(), |stage| format!(" in stage {stage}"));
    Finding::new(
        OutcomeKind::TimedOut,
        format!("not finished after {limit} s{stage}; try a larger timeout"),
    )
    .hit(LimitName::Timeout, limit, Unit::Seconds)
}

fn out_of_memory(evidence: &Evidence<'_>, report: Option<&Report>) -> Finding {
    let limit = evidence.limits.memory_mib;
    let peak = report.map_or(String::new(), |report| {
        format!(", the peak was {} MiB", report.peak_memory_bytes / MIB)
    });
    let killed = report.map_or("everything".to_owned(), |report| {
        processes(report.oom_kills)
    });
    Finding::new(
        OutcomeKind::OutOfMemory,
        format!(
            "the kernel killed {killed} for want of memory: the limit is {limit} MiB{peak}; try a larger memory limit"
        ),
    )
    .hit(LimitName::Memory, limit, Unit::MiB)
}

fn processes(count: u64) -> String {
    match count {
        // Where only the engine's flag tells of it.
        0 | 1 => "a process".to_owned(),
        more => format!("{more} processes"),
    }
}

fn by_exit_code(evidence: &Evidence<'_>, code: i32) -> Finding {
    let stage = last_stage(evidence);
    let said = exit_code::sentence(code);
    match code {
        40 => source_failed(),
        _ if evidence.facts.source_unusable && !is_rpmbuild(stage) => source_failed(),
        30 => package_manager_failed(evidence, stage),
        10 => Finding::new(
            OutcomeKind::BuildFailed,
            "%generate_buildrequires failed; see the first error",
        ),
        11 => Finding::new(OutcomeKind::TimedOut, said),
        2 | 3 | 5 | 7 | 32 | 50 | 60 | 70 | 137 | 143 if !is_rpmbuild(stage) => {
            Finding::new(OutcomeKind::SandboxFailed, said)
        }
        // Codes of mock itself that no rpmbuild passes through, whatever the stage.
        7 | 60 | 70 | 137 | 143 => Finding::new(OutcomeKind::SandboxFailed, said),
        193..=255 => Finding::new(OutcomeKind::BuildFailed, said),
        _ => match stage {
            None | Some(Stage::Fetch | Stage::Buildroot) => {
                Finding::new(OutcomeKind::SandboxFailed, said)
            }
            Some(stage) => Finding::new(OutcomeKind::BuildFailed, build_failed(stage)),
        },
    }
}

fn source_failed() -> Finding {
    Finding::new(
        OutcomeKind::SourceFailed,
        "the source package cannot be unpacked; it is truncated or damaged",
    )
}

fn build_failed(stage: Stage) -> String {
    let what = match stage {
        Stage::Prep => "%prep failed",
        Stage::Build => "%build failed",
        Stage::Install => "%install failed",
        Stage::Check => "%check failed",
        Stage::Package => "the packages could not be written",
        Stage::Dependencies => "the spec could not be read in this chroot",
        Stage::Fetch | Stage::Buildroot | Stage::Collect | Stage::Upload => "the build failed",
    };
    format!("{what}; see the first error")
}

/// Exit 30: a package is missing or a repository is broken. Whose repository it is decides whose matter it is.
fn package_manager_failed(evidence: &Evidence<'_>, stage: Option<Stage>) -> Finding {
    let facts = evidence.facts;
    if let Some(id) = &facts.failed_repository {
        return match evidence
            .repositories
            .iter()
            .find(|url| is_repository(url, id))
        {
            Some(url) => Finding::new(
                OutcomeKind::DependencyFailed,
                format!("the repository {url} cannot be read"),
            ),
            None => unreachable(&format!("the chroot's repository '{id}' cannot be read")),
        };
    }
    if !facts.missing_packages.is_empty() {
        let names: Vec<String> = facts
            .missing_packages
            .iter()
            .map(|name| format!("'{name}'"))
            .collect();
        return Finding::new(
            OutcomeKind::DependencyFailed,
            format!("no repository has {}", names.join(", ")),
        );
    }
    match stage {
        None | Some(Stage::Fetch | Stage::Buildroot) => {
            unreachable("the buildroot could not be made ready")
        }
        Some(_) => Finding::new(
            OutcomeKind::DependencyFailed,
            "the build dependencies could not be installed; see the first error",
        ),
    }
}

fn unreachable(message: &str) -> Finding {
    Finding::new(OutcomeKind::RepositoryUnreachable, message)
}

/// mock makes a repository's id from its URL, with everything unusual left out or replaced.
fn is_repository(url: &RepositoryUrl, id: &str) -> bool {
    let plain = |text: &str| -> String {
        text.chars()
            .filter(char::is_ascii_alphanumeric)
            .collect::<String>()
            .to_ascii_lowercase()
    };
    let address = url
        .as_str()
        .split_once("://")
        .map_or(url.as_str(), |(_, address)| address);
    // `$basearch` is an architecture in the id, so only what stands around it is compared.
    let id = plain(id);
    let (head, tail) = address.split_once("$basearch").unwrap_or((address, ""));
    id.starts_with(&plain(head)) && id.ends_with(&plain(tail))
}

/// Whether rpmbuild was at work; before that a failure is not the package's.
fn is_rpmbuild(stage: Option<Stage>) -> bool {
    matches!(
        stage,
        Some(Stage::Prep | Stage::Build | Stage::Install | Stage::Check | Stage::Package)
    )
}

fn last_stage(evidence: &Evidence<'_>) -> Option<Stage> {
    evidence
        .ended
        .report
        .as_ref()?
        .last_stage
        .as_deref()?
        .parse()
        .ok()
}

fn add_usage(outcome: &mut Outcome, evidence: &Evidence<'_>) {
    let Some(report) = &evidence.ended.report else {
        return;
    };
    outcome.exit_code = report.exit_code();
    outcome.exit_text = outcome.exit_code.map(exit_code::sentence);
    outcome.peak_memory_bytes = Some(report.peak_memory_bytes);
    outcome.peak_memory_with_cache_bytes = report.peak_memory_with_cache_bytes;
    outcome.oom_kills = Some(report.oom_kills);
    outcome.cpu_seconds = Some(report.cpu_seconds);
    outcome.wall_seconds = Some(report.wall_seconds);
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_supervisor::StepReport;

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
        fn judge(&self) -> Outcome {
            judge(&Evidence {
                cancelled: self.cancelled,
                ended: &self.ended,
                facts: &self.facts,
                limits: Limits {
                    memory_mib: 512,
                    timeout_seconds: 60,
                },
                repositories: &self.repositories,
                packages_made: self.packages_made,
            })
        }

        fn kind(&self) -> OutcomeKind {
            self.judge().kind
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
        let late = exit(7, "check").reported(|report| report.timed_out = true);
        let outcome = late.judge();
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
        let outcome = ended_with(Some(report(end, "buildroot"))).judge();
        assert_eq!(outcome.kind, OutcomeKind::SandboxFailed);
        assert!(outcome.message.contains("No such file or directory"));
    }

    #[test]
    fn success_needs_packages() {
        let outcome = exit(0, "package").judge();
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
            .judge();
        assert_eq!(outcome.kind, OutcomeKind::Succeeded);
        assert_eq!(outcome.oom_kills, Some(2));
        assert!(outcome.message.contains("2 processes for want of memory"));
    }

    #[test]
    fn kills_for_want_of_memory_come_before_the_exit_code() {
        for code in [1, 30, 137, 247] {
            let outcome = exit(code, "build")
                .reported(|report| report.oom_kills = 1)
                .judge();
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
            .judge();
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
            let outcome = case(id).judge();
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
            let outcome = exit(1, stage).judge();
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
}
