//! One package of an attempt: fetched, built, collected and judged.

use chrono::Utc;
use millrace_chassis::crash_point;
use millrace_domain::{Outcome, OutcomeKind, Phase, Stage};
use millrace_sandbox::SandboxHandle;
use millrace_wire::{JobSource, ManifestFile, PackageReport};

use super::ending::Unfinished;
use super::sandbox::Run;
use super::{Attempt, collect, fetch, sandbox, stages};
use crate::context::on_disk;
use crate::live::Interrupt;
use crate::log::SpooledLog;
use crate::mock::{Evidence, judge};

/// A package that was built, or was not.
pub struct Built {
    /// What became of it.
    pub report: PackageReport,
    /// Still holds its results; to be [discarded](sandbox::discard).
    pub sandbox: Option<SandboxHandle>,
}

/// Builds one package. The error says that nothing is to be reported.
pub async fn build(
    attempt: &Attempt,
    log: &mut SpooledLog,
    source: &JobSource,
) -> Result<Built, Interrupt> {
    let (outcome, files, sandbox) = match try_build(attempt, log, source).await {
        Ok((outcome, files, sandbox)) => (outcome, files, Some(sandbox)),
        Err(Unfinished::Failed(outcome)) => (*outcome, Vec::new(), None),
        Err(Unfinished::Interrupted(Interrupt::Cancelled)) => {
            let outcome = Outcome::new(OutcomeKind::Cancelled, "cancelled on request");
            (outcome, Vec::new(), None)
        }
        Err(Unfinished::Interrupted(interrupt @ (Interrupt::Revoked | Interrupt::Stopping))) => {
            return Err(interrupt);
        }
    };
    attempt.live.end_stage(Utc::now());
    let report = PackageReport {
        position: source.position,
        source: source.name.clone(),
        outcome,
        files,
    };
    Ok(Built { report, sandbox })
}

async fn try_build(
    attempt: &Attempt,
    log: &mut SpooledLog,
    source: &JobSource,
) -> Result<(Outcome, Vec<ManifestFile>, SandboxHandle), Unfinished> {
    let live = &attempt.live;
    if !attempt.ctx.is_noop() {
        live.begin_stage(Stage::Fetch, Utc::now());
        crash_point!("fetch.begun");
        fetch::fetch(attempt, source).await?;
        crash_point!("fetch.done");
        live.end_stage(Utc::now());
    }
    live.advance(Phase::Building);
    let first_stage = live.stages().len();
    let run = sandbox::run(attempt, log).await;
    remove_source(attempt).await;
    let run = run?;
    let lost = run.ended.lost_log_bytes;
    if lost > 0 {
        let note = format!("{lost} bytes of the log were lost between sandbox and builder");
        say(attempt, log, &note).await;
    }
    if let Some(report) = &run.ended.report {
        live.replace_stages(first_stage, stages::of_report(&report.stages));
    }
    let (files, left_behind) = match take_results(attempt, log, source, &run).await {
        Ok(taken) => taken,
        Err(unfinished) => {
            sandbox::discard(attempt, run.handle);
            return Err(unfinished);
        }
    };
    let outcome = match (judge(&evidence(attempt, &run, &files)), left_behind) {
        (outcome, Some(failure)) if outcome.kind == OutcomeKind::Succeeded => failure,
        (outcome, _) => outcome,
    };
    Ok((outcome, files, run.handle))
}

/// The files, and what makes a success none.
async fn take_results(
    attempt: &Attempt,
    log: &mut SpooledLog,
    source: &JobSource,
    run: &Run,
) -> Result<(Vec<ManifestFile>, Option<Outcome>), Unfinished> {
    if run.cancelled || attempt.ctx.is_noop() {
        return Ok((Vec::new(), None));
    }
    if attempt.record.job.sources.last() == Some(source) {
        attempt.live.advance(Phase::Collecting);
    }
    attempt.live.begin_stage(Stage::Collect, Utc::now());
    crash_point!("collect.begun");
    let collected = collect::collect(attempt, &run.handle, source.position).await?;
    crash_point!("collect.done");
    for refused in &collected.refused {
        let line = format!(
            "{} was left in the sandbox: {}",
            refused.name, refused.reason
        );
        say(attempt, log, &line).await;
    }
    let left_behind = collect::left_behind(&collected);
    Ok((collect::manifest(&collected), left_behind))
}

fn evidence<'a>(attempt: &'a Attempt, run: &'a Run, files: &[ManifestFile]) -> Evidence<'a> {
    let job = &attempt.record.job;
    Evidence {
        cancelled: run.cancelled,
        ended: &run.ended,
        facts: &run.facts,
        limits: job.limits,
        caps: attempt.ctx.sandboxes.caps,
        repositories: &job.repositories,
        packages_made: attempt.ctx.is_noop() || collect::has_packages(files),
    }
}

/// Appends a line of the builder's own to the log; a disk that fails shows elsewhere.
pub async fn say(attempt: &Attempt, log: &mut SpooledLog, line: &str) {
    if let Err(error) = log.say(line).await {
        tracing::warn!(attempt.id = %attempt.live.id(), "{error}");
    }
}

/// Sources are large and not needed any more.
async fn remove_source(attempt: &Attempt) {
    if attempt.ctx.is_noop() {
        return;
    }
    let path = attempt.folder.source();
    if let Err(error) = on_disk(move || std::fs::remove_file(path)).await {
        tracing::warn!(attempt.id = %attempt.live.id(), "cannot remove a built source: {error}");
    }
}
