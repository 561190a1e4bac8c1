//! The limits that a run can hit. Each outcome says the limit, how much was used, in which stage, and what to try.

use millrace_domain::{LimitName, OutcomeKind, Unit};
use millrace_supervisor::{LimitHit, Report};

use crate::mock::classify::{Evidence, Finding, last_stage};

const MIB: u64 = 1 << 20;
/// A host's file system with less free space than this counts as full, in bytes.
const FULL: u64 = 64 * MIB;

/// The limit that made the supervisor end the run.
pub(super) fn hit(evidence: &Evidence<'_>, report: &Report) -> Option<Finding> {
    Some(match report.limit_hit? {
        LimitHit::Time => timed_out(evidence),
        LimitHit::Silence => silent(evidence),
        LimitHit::Log => log_too_large(evidence, report),
        LimitHit::Disk => disk_full(evidence, report),
    })
}

/// Whether the kernel killed processes for lack of memory, or refused writes because the host's disk was full.
pub(super) fn killed(evidence: &Evidence<'_>, report: &Report) -> Option<Finding> {
    if report.oom_kills > 0 && report.memory_limit_reached == Some(false) {
        return Some(Finding::new(
            OutcomeKind::SandboxFailed,
            format!(
                "the builder's host ran out of memory and its kernel killed {} of the build, which stayed below its own limit",
                processes(report.oom_kills)
            ),
        ));
    }
    if report.oom_kills > 0 || evidence.ended.engine_oom_flag {
        return Some(out_of_memory(evidence, Some(report)));
    }
    let is_host_full = report.lowest_free_bytes.is_some_and(|free| free < FULL);
    (evidence.facts.no_space && is_host_full).then(|| {
        Finding::new(
            OutcomeKind::BuilderDiskFull,
            "the disk of the builder's host is full; make room on the disk where the engine stores its containers",
        )
    })
}

fn silent(evidence: &Evidence<'_>) -> Finding {
    let limit = evidence.caps.silence_seconds.unwrap_or_default();
    Finding::new(
        OutcomeKind::Silent,
        format!(
            "no output for {limit} s{}; perhaps a test waits for ever, or a tool prints nothing while it works",
            in_stage(evidence)
        ),
    )
    .hit(LimitName::Silence, limit.into(), Unit::Seconds)
}

fn log_too_large(evidence: &Evidence<'_>, report: &Report) -> Finding {
    let limit = evidence.caps.log.hard_bytes / MIB;
    Finding::new(
        OutcomeKind::LogTooLarge,
        format!(
            "the log grew to {} MiB{}, the limit is {limit} MiB; its beginning and its end are stored; make the build less verbose",
            report.log_bytes / MIB,
            in_stage(evidence)
        ),
    )
    .hit(LimitName::Log, limit, Unit::MiB)
}

fn disk_full(evidence: &Evidence<'_>, report: &Report) -> Finding {
    let limit = evidence.caps.disk_bytes.unwrap_or_default() / MIB;
    Finding::new(
        OutcomeKind::DiskFull,
        format!(
            "the build used {} MiB of disk space{}, the limit is {limit} MiB; the operator sets it (MILLRACE_SANDBOX_DISK_MB)",
            report.disk_bytes.unwrap_or_default() / MIB,
            in_stage(evidence)
        ),
    )
    .hit(LimitName::Disk, limit, Unit::MiB)
}

fn in_stage(evidence: &Evidence<'_>) -> String {
    last_stage(evidence).map_or(String::new(), |stage| format!(" in stage {stage}"))
}

pub(super) fn timed_out(evidence: &Evidence<'_>) -> Finding {
    let limit = evidence.limits.timeout_seconds;
    Finding::new(
        OutcomeKind::TimedOut,
        format!(
            "not finished after {limit} s{}; try a larger timeout",
            in_stage(evidence)
        ),
    )
    .hit(LimitName::Timeout, limit.into(), Unit::Seconds)
}

pub(super) fn out_of_memory(evidence: &Evidence<'_>, report: Option<&Report>) -> Finding {
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
            "the kernel killed {killed} for lack of memory: the limit is {limit} MiB{peak}; try a larger memory limit"
        ),
    )
    .hit(LimitName::Memory, limit.into(), Unit::MiB)
}

pub(super) fn processes(count: u64) -> String {
    match count {
        // 0 when only the engine's flag says that a process was killed.
        0 | 1 => "a process".to_owned(),
        more => format!("{more} processes"),
    }
}
