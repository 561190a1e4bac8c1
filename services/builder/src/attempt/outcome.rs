//! How a step of an attempt fails: by an interrupt, or with an outcome to report. Also the outcome of a whole attempt from
//! those of its packages.

use millrace_domain::{Origin, Outcome, OutcomeKind, Stage};
use millrace_sandbox::SandboxError;
use millrace_wire::PackageReport;

use crate::attempt_registry::Interrupt;
use crate::spool::atomic_file;

/// Why a step did not succeed.
#[derive(Debug)]
pub enum Unfinished {
    /// The work was interrupted from outside.
    Interrupted(Interrupt),
    /// The package failed, or this builder did; the outcome says which.
    Failed(Box<Outcome>),
}

impl From<Interrupt> for Unfinished {
    fn from(interrupt: Interrupt) -> Self {
        Self::Interrupted(interrupt)
    }
}

impl From<Outcome> for Unfinished {
    fn from(outcome: Outcome) -> Self {
        Self::Failed(Box::new(outcome))
    }
}

/// The spool's disk is full; the message tells the operator what to do.
fn disk_full(stage: Stage) -> Outcome {
    let message = "the builder's spool disk is full; make room on the disk of its MILLRACE_SPOOL_DIR, \
                   or let it stop taking work earlier (MILLRACE_SPOOL_FLOOR_MB)";
    Outcome::new(OutcomeKind::BuilderDiskFull, message).at(stage)
}

/// The outcome of a failed read or write in the spool.
pub fn disk_failed(error: &std::io::Error, stage: Stage) -> Outcome {
    if atomic_file::is_full(error) {
        disk_full(stage)
    } else {
        Outcome::new(
            OutcomeKind::InternalError,
            format!("the builder's spool cannot be used: {error}"),
        )
        .at(stage)
    }
}

/// The outcome of a failure of the engine or of a container.
pub fn sandbox_failed(error: &SandboxError, stage: Stage) -> Outcome {
    match error {
        SandboxError::File { source, .. } => disk_failed(source, stage),
        SandboxError::SourceTooLarge { .. } => {
            Outcome::new(OutcomeKind::SourceFailed, error.to_string()).at(stage)
        }
        SandboxError::CollectFailed { reason } if says_disk_full(reason) => disk_full(stage),
        SandboxError::BadUrl { .. }
        | SandboxError::EngineUnreachable { .. }
        | SandboxError::ProfileRefused { .. }
        | SandboxError::LimitNotEnforced { .. }
        | SandboxError::ImageMissing { .. }
        | SandboxError::BakeFailed { .. }
        | SandboxError::NetworkFailed { .. }
        | SandboxError::CreateFailed { .. }
        | SandboxError::Vanished { .. }
        | SandboxError::CollectFailed { .. }
        | SandboxError::RemoveFailed { .. }
        | SandboxError::Refused { .. } => {
            Outcome::new(OutcomeKind::SandboxFailed, error.to_string()).at(stage)
        }
    }
}

/// Whether results could not be copied because the spool's disk is full. The error carries that as text only.
fn says_disk_full(reason: &str) -> bool {
    reason.contains("No space left on device") || reason.contains("Disk quota exceeded")
}

/// The outcome of a whole attempt: the one that ended it early, else that of the first package that failed, else success
/// with the usage of all packages. A fault of Millrace comes first, since it may be why a package was not tried again.
pub fn of_packages(packages: &[PackageReport]) -> Outcome {
    let kinds = || packages.iter().map(|package| package.outcome.kind);
    let ended_early = kinds().position(ends_the_attempt);
    let unresolved = ended_early
        .or_else(|| kinds().position(|kind| !kind.is_success()))
        .and_then(|at| packages.get(at));
    match (unresolved, packages) {
        (_, [package]) => package.outcome.clone(),
        (Some(package), _) => {
            let mut outcome = package.outcome.clone();
            outcome.message = format!("{}: {}", package.source, outcome.message);
            outcome
        }
        (None, []) => Outcome::new(OutcomeKind::InternalError, "the job has no sources"),
        (None, all) => success_of(all),
    }
}

/// Whether an outcome ends the attempt, so that the packages behind it are not begun: a fault of Millrace or a cancel.
pub fn ends_the_attempt(kind: OutcomeKind) -> bool {
    match kind.origin() {
        Origin::Infrastructure | Origin::Requester => true,
        Origin::Package | Origin::Nobody => false,
    }
}

/// A success of several packages with the sum of their usage, or the peak where a sum has no meaning.
fn success_of(packages: &[PackageReport]) -> Outcome {
    let outcomes = || packages.iter().map(|package| &package.outcome);
    let noted = outcomes().find(|outcome| outcome.oom_kills.is_some_and(|kills| kills > 0));
    let message = noted.map_or_else(
        || format!("built {} packages", packages.len()),
        |outcome| outcome.message.clone(),
    );
    let mut outcome = Outcome::new(OutcomeKind::Succeeded, message);
    outcome.exit_code = Some(0);
    outcome.peak_memory_bytes = outcomes().filter_map(|o| o.peak_memory_bytes).max();
    outcome.peak_memory_with_cache_bytes = outcomes()
        .filter_map(|o| o.peak_memory_with_cache_bytes)
        .max();
    outcome.oom_kills = Some(outcomes().filter_map(|o| o.oom_kills).sum());
    outcome.cpu_seconds = Some(outcomes().filter_map(|o| o.cpu_seconds).sum());
    outcome.wall_seconds = Some(outcomes().filter_map(|o| o.wall_seconds).sum());
    outcome.log_bytes = Some(outcomes().filter_map(|o| o.log_bytes).sum());
    outcome.result_bytes = Some(outcomes().filter_map(|o| o.result_bytes).sum());
    outcome.source_bytes = Some(outcomes().filter_map(|o| o.source_bytes).sum());
    outcome.received_bytes = Some(outcomes().filter_map(|o| o.received_bytes).sum());
    outcome.disk_bytes = outcomes().filter_map(|o| o.disk_bytes).max();
    for (stage, seconds) in outcomes().flat_map(|o| &o.stage_seconds) {
        *outcome.stage_seconds.entry(*stage).or_default() += seconds;
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(kind: OutcomeKind, message: &str, cpu: f64) -> PackageReport {
        let mut outcome = Outcome::new(kind, message);
        outcome.cpu_seconds = Some(cpu);
        PackageReport {
            position: 0,
            source: "a-1-1.src.rpm".parse().unwrap(),
            outcome,
            files: Vec::new(),
        }
    }

    #[test]
    fn the_first_unresolved_package_decides() {
        let outcome = of_packages(&[
            package(OutcomeKind::Succeeded, "built", 1.0),
            package(OutcomeKind::BuildFailed, "%build failed", 1.0),
            package(OutcomeKind::SourceFailed, "gone", 1.0),
        ]);
        assert_eq!(outcome.kind, OutcomeKind::BuildFailed);
        assert_eq!(outcome.message, "a-1-1.src.rpm: %build failed");
    }

    #[test]
    fn what_ended_the_attempt_early_comes_before_a_failure_that_might_have_been_cured() {
        for kind in [OutcomeKind::SandboxFailed, OutcomeKind::Cancelled] {
            let outcome = of_packages(&[
                package(OutcomeKind::DependencyFailed, "no repository has 'a'", 1.0),
                package(kind, "x", 1.0),
            ]);
            assert_eq!(outcome.kind, kind);
        }
    }

    #[test]
    fn success_has_the_usage_of_all() {
        let outcome = of_packages(&[
            package(OutcomeKind::Succeeded, "built", 1.5),
            package(OutcomeKind::Succeeded, "built", 2.0),
        ]);
        assert_eq!(
            (outcome.kind, outcome.cpu_seconds),
            (OutcomeKind::Succeeded, Some(3.5))
        );
        assert_eq!(of_packages(&[]).kind, OutcomeKind::InternalError);
    }

    #[test]
    fn a_full_disk_is_the_builders_matter() {
        let error = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(
            disk_failed(&error, Stage::Fetch).kind,
            OutcomeKind::BuilderDiskFull
        );
        let error = SandboxError::CollectFailed {
            reason: "x: No space left on device (os error 28)".to_owned(),
        };
        assert_eq!(
            sandbox_failed(&error, Stage::Collect).kind,
            OutcomeKind::BuilderDiskFull
        );
    }
}
