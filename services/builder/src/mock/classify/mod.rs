//! Judges a run of mock. The exit code alone does not classify, so the order is:
//!
//! | first that holds | outcome |
//! | --- | --- |
//! | we cancelled it | `cancelled` |
//! | the wall limit was hit, by the supervisor's word or because it had to be ended from outside | `timed_out` |
//! | the limit on silence, on the log or on disk space was hit first | `silent`, `log_too_large`, `disk_full` |
//! | the sandbox lost its builder | `sandbox_failed` |
//! | mock could not be started | `sandbox_failed` |
//! | exit 0, packages | `succeeded`, with a note when a process was killed for want of memory |
//! | exit 0, no packages | `build_failed` |
//! | a process was killed for want of memory, and the limit was never reached: the host's memory ran out | `sandbox_failed` |
//! | a process was killed for want of memory, or the engine says so | `out_of_memory` |
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
//! A process that was killed for want of memory earlier, and tolerated, may precede another failure; that failure
//! is then called `out_of_memory` too, since nothing tells the two apart.

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

/// Everything that a judgement looks at.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The requester's cancel was carried out.
    pub cancelled: bool,
    /// How the sandbox ended, with the supervisor's last word.
    pub ended: &'a Ended,
    /// What the log told.
    pub facts: &'a LogFacts,
    /// The last sample that the supervisor told: what is known where it left no report.
    pub last_sample: Option<Sample>,
    /// The package's limits.
    pub limits: Limits,
    /// The operator's.
    pub caps: SandboxCaps,
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

    fn hit(mut self, name: LimitName, value: u64, unit: Unit) -> Self {
        self.limit = Some(Limit { name, value, unit });
        self
    }
}

/// How the run ended, with all its usage.
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

/// What was ended while all was well has no first error.
fn is_ended_by_us(kind: OutcomeKind) -> bool {
    matches!(
        kind,
        OutcomeKind::Cancelled
            | OutcomeKind::TimedOut
            | OutcomeKind::Silent
            | OutcomeKind::LogTooLarge
            | OutcomeKind::DiskFull
    )
}

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

fn find_in_report(evidence: &Evidence<'_>, report: &Report) -> Finding {
    let failed = |message: String| Finding::new(OutcomeKind::SandboxFailed, message);
    if let Some(finding) = limits::hit(evidence, report) {
        return finding;
    }
    if report.abandoned {
        return failed("the sandbox lost its builder and ended itself".to_owned());
    }
    if report.cancelled {
        return failed("the sandbox was told to end by somebody else than its builder".to_owned());
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
        // Their bytes are the packages' own, so nobody else is to blame.
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
                "built, but the kernel killed {} for want of memory on the way, and the package tolerated it; \
                 the limit is {} MiB",
                limits::processes(report.oom_kills),
                evidence.limits.memory_mib
            ),
        );
    }
    Finding::new(OutcomeKind::Succeeded, "built")
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
        let candidates = evidence.repositories.iter();
        let found = candidates
            .filter(|url| is_repository(url, id))
            // One may lie below another: the longest is meant.
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
    // Walks are made only when the disk fills up: nothing found is nothing looked for.
    outcome.disk_bytes = report.disk_bytes.filter(|bytes| *bytes > 0);
    outcome.received_bytes = report.received_bytes;
}
