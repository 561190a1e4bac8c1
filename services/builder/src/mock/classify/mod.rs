//! Classifies how a run of mock ended. The exit code alone does not decide, so the rules are, in this order:
//!
//! | first that holds | outcome |
//! | --- | --- |
//! | we cancelled it | `cancelled` |
//! | the wall-time limit was hit: the supervisor reports it, or the sandbox had to be ended from outside | `timed_out` |
//! | the limit on silence, on the log or on disk space was hit first | `silent`, `log_too_large`, `disk_full` |
//! | the sandbox lost its builder | `sandbox_failed` |
//! | mock could not be started | `sandbox_failed` |
//! | exit 0, packages | `succeeded`, with a note when a process was killed for lack of memory |
//! | exit 0, no packages | `build_failed` |
//! | a process was killed for lack of memory, and the limit was never reached: the host's memory ran out | `sandbox_failed` |
//! | a process was killed for lack of memory, or the engine says so | `out_of_memory` |
//! | no space left on a device, and the host's disk was full | `builder_disk_full` |
//! | the packages that were built before could not be made a repository | `dependency_failed` |
//! | no report: PID 1 was killed from outside | `sandbox_failed` |
//! | 40, or the log calls the source unusable | `source_failed` |
//! | 30, the extra repository or a package is missing | `dependency_failed` |
//! | 30, the chroot's own repository; 30 in chroot init | `repository_unreachable` |
//! | 10, 11, rpmbuild's own signal | `build_failed`, `timed_out`, `build_failed` |
//! | 1 or unknown, from the build's setup on | `build_failed` |
//! | everything else: 2, 3, 5, 7, 32, 50, 60, 70, 137, 143, or a failure before the setup | `sandbox_failed` |
//!
//! When a process was killed for lack of memory and the package went on, a later failure is called `out_of_memory` too,
//! since nothing distinguishes the two.

use millrace_domain::{Limit, LimitName, Limits, Outcome, OutcomeKind, RepositoryUrl, Stage, Unit};
use millrace_sandbox::Ended;
use millrace_supervisor::{Report, Sample, StepEnd};

use crate::config::sandbox::SandboxCaps;
use crate::mock::exit_code;
use crate::mock::log_scan::LogFacts;
use crate::mock::plan::REPOSITORY_STEP;

pub(crate) mod limits;
#[cfg(test)]
pub(crate) mod tests;

/// Everything that the classification depends on.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// Whether the requester's cancel ended the run.
    pub cancelled: bool,
    /// How the sandbox ended, with the supervisor's report.
    pub ended: &'a Ended,
    /// What was found in the log.
    pub facts: &'a LogFacts,
    /// The supervisor's last sample: the usage that is known when there is no report.
    pub last_sample: Option<Sample>,
    /// Memory and time limits of the try.
    pub limits: Limits,
    /// The operator's limits of the sandbox, with the task's disk space.
    pub caps: SandboxCaps,
    /// The build's extra repositories.
    pub repositories: &'a [RepositoryUrl],
    /// Whether the sandbox made binary packages.
    pub packages_made: bool,
}

/// A classification, before stage and usage are added.
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

    fn hit(mut self, name: LimitName, value: u64, unit: Unit) -> Self {
        self.limit = Some(Limit { name, value, unit });
        self
    }
}

/// The outcome of a run, with its usage.
pub fn classify(evidence: &Evidence<'_>) -> Outcome {
    let finding = find(evidence);
    let mut outcome = Outcome::new(finding.kind, finding.message);
    outcome.limit = finding.limit;
    if finding.kind != OutcomeKind::Succeeded {
        outcome.stage = last_stage(evidence);
        if !is_ended_by_us(finding.kind) {
            outcome.first_error.clone_from(&evidence.facts.first_error);
        }
    }
    add_usage(&mut outcome, evidence);
    outcome
}

/// Whether Millrace ended the run. Then the log may show no error, so no line of it is called the first error.
fn is_ended_by_us(kind: OutcomeKind) -> bool {
    match kind {
        OutcomeKind::Cancelled
        | OutcomeKind::TimedOut
        | OutcomeKind::Silent
        | OutcomeKind::LogTooLarge
        | OutcomeKind::DiskFull => true,
        OutcomeKind::Succeeded
        | OutcomeKind::BuildFailed
        | OutcomeKind::DependencyFailed
        | OutcomeKind::SourceFailed
        | OutcomeKind::OutOfMemory
        | OutcomeKind::Skipped
        | OutcomeKind::BuilderLost
        | OutcomeKind::BuilderDiskFull
        | OutcomeKind::SandboxFailed
        | OutcomeKind::RepositoryUnreachable
        | OutcomeKind::InternalError => false,
    }
}

/// Applies the rules up to the supervisor's report.
fn find(evidence: &Evidence<'_>) -> Finding {
    if evidence.cancelled {
        return Finding::new(OutcomeKind::Cancelled, "cancelled on request");
    }
    let ended = evidence.ended;
    match &ended.report {
        Some(report) => find_in_report(evidence, report),
        None if ended.was_overdue => limits::timed_out(evidence),
        None if ended.engine_oom_flag => limits::out_of_memory(evidence, None),
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

/// Applies the rules about the supervisor's report.
fn find_in_report(evidence: &Evidence<'_>, report: &Report) -> Finding {
    let failed = |message: String| Finding::new(OutcomeKind::SandboxFailed, message);
    if let Some(finding) = limits::hit(evidence, report) {
        return finding;
    }
    if report.abandoned {
        return failed("the sandbox lost its builder and ended itself".to_owned());
    }
    if report.cancelled {
        return failed("the sandbox was ended by something other than its builder".to_owned());
    }
    let last = report.steps.last();
    let is_repository = last.is_some_and(|step| step.name == REPOSITORY_STEP);
    if let Some(StepEnd::NotStarted(reason)) = last.map(|step| &step.end) {
        let what = if is_repository {
            "createrepo_c"
        } else {
            "mock"
        };
        return failed(format!(
            "{what} was not started in the chroot's image: {reason}"
        ));
    }
    let Some(code) = report.exit_code() else {
        return failed("the sandbox ran nothing".to_owned());
    };
    if code == 0 {
        return clean_exit(evidence, report);
    }
    if let Some(finding) = limits::killed(evidence, report) {
        return finding;
    }
    if is_repository {
        // The packages are the build's own, so the fault is the build's.
        return Finding::new(
            OutcomeKind::DependencyFailed,
            format!(
                "the packages that were built before it cannot be read (createrepo_c exited with {code})"
            ),
        );
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
                "built, but the kernel killed {} for lack of memory on the way, and the package tolerated it; \
                 the limit is {} MiB",
                limits::processes(report.oom_kills),
                evidence.limits.memory_mib
            ),
        );
    }
    Finding::new(OutcomeKind::Succeeded, "built")
}

/// Applies the rules about mock's exit code.
fn by_exit_code(evidence: &Evidence<'_>, code: i32) -> Finding {
    let stage = last_stage(evidence);
    let exit_text = exit_code::sentence(code);
    match code {
        40 => source_failed(),
        _ if evidence.facts.source_unusable && !is_rpmbuild(stage) => source_failed(),
        30 => package_manager_failed(evidence, stage),
        10 => Finding::new(
            OutcomeKind::BuildFailed,
            "%generate_buildrequires failed; see the first error",
        ),
        11 => Finding::new(OutcomeKind::TimedOut, exit_text),
        2 | 3 | 5 | 7 | 32 | 50 | 60 | 70 | 137 | 143 if !is_rpmbuild(stage) => {
            Finding::new(OutcomeKind::SandboxFailed, exit_text)
        }
        // Codes of mock itself, in any stage: mock never passes them through from rpmbuild.
        7 | 60 | 70 | 137 | 143 => Finding::new(OutcomeKind::SandboxFailed, exit_text),
        193..=255 => Finding::new(OutcomeKind::BuildFailed, exit_text),
        _ => match stage {
            None | Some(Stage::Fetch | Stage::Buildroot) => {
                Finding::new(OutcomeKind::SandboxFailed, exit_text)
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

/// Exit code 30: a package is missing or a repository is broken. An extra repository is the build's fault, the chroot's own
/// is not.
fn package_manager_failed(evidence: &Evidence<'_>, stage: Option<Stage>) -> Finding {
    let facts = evidence.facts;
    if let Some(id) = &facts.failed_repository {
        let candidates = evidence.repositories.iter();
        let found = candidates
            .filter(|url| is_repository(url, id))
            // The URL of one repository may begin with another's; the longest match is the right one.
            .max_by_key(|url| url.as_str().len());
        return match found {
            Some(url) => Finding::new(
                OutcomeKind::DependencyFailed,
                format!("the repository {url} cannot be read; see the first error"),
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
        Some(
            Stage::Dependencies
            | Stage::Prep
            | Stage::Build
            | Stage::Install
            | Stage::Check
            | Stage::Package
            | Stage::Collect
            | Stage::Upload,
        ) => Finding::new(
            OutcomeKind::DependencyFailed,
            "the build dependencies could not be installed; see the first error",
        ),
    }
}

fn unreachable(message: &str) -> Finding {
    Finding::new(OutcomeKind::RepositoryUnreachable, message)
}

/// Whether a repository has this id. mock makes the id from the URL, with unusual characters left out or replaced.
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

/// Whether rpmbuild was running. Before that a failure is not the package's fault.
fn is_rpmbuild(stage: Option<Stage>) -> bool {
    match stage {
        Some(Stage::Prep | Stage::Build | Stage::Install | Stage::Check | Stage::Package) => true,
        Some(
            Stage::Fetch | Stage::Buildroot | Stage::Dependencies | Stage::Collect | Stage::Upload,
        )
        | None => false,
    }
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
        if let Some(sample) = evidence.last_sample {
            outcome.peak_memory_bytes = Some(sample.peak_memory_bytes);
            outcome.oom_kills = Some(sample.oom_kills);
            outcome.log_bytes = Some(sample.log_bytes);
            outcome.disk_bytes = sample.disk_bytes.filter(|bytes| *bytes > 0);
            outcome.received_bytes = Some(sample.received_bytes);
        }
        return;
    };
    outcome.exit_code = report.exit_code();
    outcome.exit_text = outcome.exit_code.map(exit_code::sentence);
    outcome.peak_memory_bytes = Some(report.peak_memory_bytes);
    outcome.peak_memory_with_cache_bytes = report.peak_memory_with_cache_bytes;
    outcome.oom_kills = Some(report.oom_kills);
    outcome.cpu_seconds = Some(report.cpu_seconds);
    outcome.wall_seconds = Some(report.wall_seconds);
    outcome.log_bytes = Some(report.log_bytes);
    // The supervisor measures disk use only when the disk fills up: 0 means not measured.
    outcome.disk_bytes = report.disk_bytes.filter(|bytes| *bytes > 0);
    outcome.received_bytes = report.received_bytes;
}
