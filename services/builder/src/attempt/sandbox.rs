//! Runs one try of a package in a sandbox of its own, from the container's start to its end. However it ends, the log is
//! read to its end and the container is removed.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use millrace_chassis::{Backoff, BackoffExt, CancellationToken, crash_point};
use millrace_domain::{Outcome, OutcomeKind, Stage};
use millrace_sandbox::{
    Ended, SandboxError, SandboxFiles, SandboxHandle, SandboxLimits, SandboxSpec,
};
use millrace_supervisor::Sample;
use tracing::Instrument as _;

use crate::attempt::Attempt;
use crate::attempt::outcome::{Unfinished, disk_failed, sandbox_failed};
use crate::attempt::stages;
use crate::attempt_registry::Interrupt;
use crate::log::spool::{LogError, SpooledLog};
use crate::mock::log_scan::LogFacts;
use crate::mock::plan::{PlanInputs, plan, programs};

/// How long a cancelled sandbox may take to end; its supervisor gives mock three seconds.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the engine may take to report the end of a sandbox that was killed.
const KILL_TIMEOUT: Duration = Duration::from_secs(15);
/// A container expires this long after the time limit of its try; the cleanup then removes it, whoever made it.
const EXPIRY_MARGIN: TimeDelta = TimeDelta::minutes(30);

/// A sandbox that ended, with what is known of its run.
pub struct SandboxRun {
    /// The container, which still holds the results; to be [discarded](discard).
    pub handle: SandboxHandle,
    /// Exit code of the container and the supervisor's report.
    pub ended: Ended,
    /// First error, missing packages and the like, found in the log.
    pub facts: LogFacts,
    /// The supervisor's last sample of memory, log and disk use; none when it sent none.
    pub last_sample: Option<Sample>,
    /// It ended because the requester cancelled.
    pub cancelled: bool,
}

/// What goes into a sandbox.
#[derive(Debug)]
pub struct SandboxInputs {
    /// Path of the source package in the spool.
    pub source: PathBuf,
    /// Binary packages that this attempt has built before, as a repository for this try.
    pub packages: Vec<PathBuf>,
    /// Limit on the wall time of this try, in seconds.
    pub timeout_seconds: u32,
}

/// Starts a sandbox for one try of a package and waits for its end.
pub async fn run(
    attempt: &Attempt,
    log: &mut SpooledLog,
    inputs: SandboxInputs,
) -> Result<SandboxRun, Unfinished> {
    let (spec, files) = spec_and_files(attempt, inputs);
    crash_point("sandbox.unmade");
    // Not interrupted: a start that is dropped half-way would leave a container behind.
    let mut handle = attempt
        .ctx
        .runtime
        .start(&spec, &files)
        .await
        .map_err(|error| sandbox_failed(&error, Stage::Buildroot))?;
    crash_point("sandbox.started");
    let pieces = handle.take_log();
    let notices = handle.take_notices();
    let log_failed = log.failed();
    let (facts, last_sample, (ended, end)) = tokio::join!(
        async {
            match pieces {
                Some(pieces) => log.spool_output(pieces).await,
                None => Ok(LogFacts::default()),
            }
        },
        stages::follow_notices(notices, &attempt.running),
        wait(attempt, &mut handle, &log_failed),
    );
    crash_point("sandbox.ended");
    match resolve_end(facts, ended, end) {
        Ok((facts, ended)) => Ok(SandboxRun {
            handle,
            ended,
            facts,
            last_sample,
            cancelled: end == SandboxEnd::Interrupted(Interrupt::Cancelled),
        }),
        Err(unfinished) => {
            discard(attempt, handle);
            Err(unfinished)
        }
    }
}

fn spec_and_files(attempt: &Attempt, inputs: SandboxInputs) -> (SandboxSpec, SandboxFiles) {
    let job = &attempt.record.job;
    let settings = &attempt.ctx.sandboxes;
    let spec = SandboxSpec {
        attempt: job.attempt_id,
        builder: attempt.ctx.builder,
        expires: Utc::now() + TimeDelta::seconds(inputs.timeout_seconds.into()) + EXPIRY_MARGIN,
        image: job.chroot.image.clone(),
        profile: settings.profile,
        device_nodes: settings.device_nodes,
        limits: SandboxLimits {
            memory_bytes: u64::from(job.limits.memory_mib) << 20,
            pids: settings.caps.pids,
            cpus: settings.caps.cpus,
        },
        network: Some(settings.network.clone()),
        env: Vec::new(),
    };
    let plan = plan(&PlanInputs {
        job,
        caps: &settings.caps.with_disk(job.disk_mib),
        timeout_seconds: inputs.timeout_seconds,
        has_packages: !inputs.packages.is_empty(),
    });
    let files = SandboxFiles {
        supervisor: settings.supervisor.clone(),
        plan,
        source: (!attempt.ctx.is_noop()).then_some(inputs.source),
        max_source_bytes: settings.max_source_bytes,
        programs: programs(job),
        packages: inputs.packages,
    };
    (spec, files)
}

/// What ended a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SandboxEnd {
    /// It ended by itself.
    Own,
    Interrupted(Interrupt),
    /// The log could not be written to the spool.
    LogFailed,
}

/// Waits for the end of a sandbox, and ends it on an interrupt or when its log cannot be written.
async fn wait(
    attempt: &Attempt,
    handle: &mut SandboxHandle,
    log_failed: &CancellationToken,
) -> (Result<Ended, SandboxError>, SandboxEnd) {
    let end = tokio::select! {
        biased;
        ended = handle.wait() => return (ended, SandboxEnd::Own),
        interrupt = attempt.running.interrupted(&attempt.ctx.shutdown) => SandboxEnd::Interrupted(interrupt),
        () = log_failed.cancelled() => SandboxEnd::LogFailed,
    };
    if end == SandboxEnd::Interrupted(Interrupt::Cancelled) {
        handle.cancel();
        if let Ok(ended) = tokio::time::timeout(CANCEL_TIMEOUT, handle.wait()).await {
            return (ended, end);
        }
        tracing::warn!("a cancelled sandbox did not end in time, killing it");
    }
    let killed = match handle.kill().await {
        Ok(()) => tokio::time::timeout(KILL_TIMEOUT, handle.wait()).await,
        Err(error) => return (Err(error), end),
    };
    let ended = killed.unwrap_or_else(|_| {
        Err(SandboxError::CollectFailed {
            reason: "the engine did not report the end of a killed sandbox".to_owned(),
        })
    });
    (ended, end)
}

/// Decides whether an ended sandbox is classified, or the try ends with an interrupt or a fault of this builder.
fn resolve_end(
    facts: Result<LogFacts, LogError>,
    ended: Result<Ended, SandboxError>,
    end: SandboxEnd,
) -> Result<(LogFacts, Ended), Unfinished> {
    match end {
        SandboxEnd::Interrupted(interrupt @ (Interrupt::Revoked | Interrupt::Stopping)) => {
            return Err(interrupt.into());
        }
        SandboxEnd::Interrupted(Interrupt::Cancelled) if ended.is_err() => {
            return Err(Outcome::new(OutcomeKind::Cancelled, "cancelled on request").into());
        }
        SandboxEnd::Interrupted(Interrupt::Cancelled) | SandboxEnd::Own | SandboxEnd::LogFailed => {
        }
    }
    let facts = facts.map_err(|LogError(error)| disk_failed(&error, Stage::Build))?;
    let ended = ended.map_err(|error| sandbox_failed(&error, Stage::Build))?;
    Ok((facts, ended))
}

/// Removes a sandbox in the background; its processes have ended, so its memory is free already.
pub fn discard(attempt: &Attempt, mut handle: SandboxHandle) {
    let ctx = attempt.ctx.clone();
    let removal = async move {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        for _ in 0..8 {
            match handle.remove().await {
                Ok(()) => {
                    crash_point("sandbox.removed");
                    return;
                }
                Err(error) => {
                    tracing::warn!("a sandbox cannot be removed yet: {error}");
                }
            }
            if !backoff.pause(&ctx.leaving).await {
                break;
            }
        }
        tracing::error!(
            container.id = handle.container_id(),
            "a sandbox could not be removed; the cleanup removes it once it has expired"
        );
    };
    if attempt.ctx.is_noop() {
        return;
    }
    attempt
        .ctx
        .shutdown
        .tracker()
        .spawn(removal.in_current_span());
}
