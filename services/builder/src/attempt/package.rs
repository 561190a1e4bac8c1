//! One try of one package: fetch the source, build it in a sandbox, collect the results, and classify how it ended.

use std::path::Path;
use std::time::{Duration, Instant};

use chrono::Utc;
use millrace_chassis::crash_point;
use millrace_domain::{Limits, Outcome, OutcomeKind, Phase, Stage, StageTime};
use millrace_sandbox::SandboxHandle;
use millrace_wire::{JobSource, ManifestFile, PackageReport};

use crate::attempt::Attempt;
use crate::attempt::collect;
use crate::attempt::fetch;
use crate::attempt::outcome::Unfinished;
use crate::attempt::package_order::Try;
use crate::attempt::sandbox;
use crate::attempt::sandbox::{SandboxInputs, SandboxRun};
use crate::attempt::stages;
use crate::attempt_registry::Interrupt;
use crate::log::spool::SpooledLog;
use crate::mock::classify::{Evidence, classify};
use crate::spool::blocking::on_disk;

/// How a try of a package ended.
pub struct TriedPackage {
    /// The outcome and the files, as the frontend gets them.
    pub report: PackageReport,
    /// The sandbox, which still holds the results; none when none was started. To be [discarded](sandbox::discard).
    pub sandbox: Option<SandboxHandle>,
    /// How long the sandbox ran; zero when none was started.
    pub took: Duration,
}

/// A try whose sandbox ran to its end.
struct BuiltPackage {
    outcome: Outcome,
    files: Vec<ManifestFile>,
    sandbox: SandboxHandle,
    took: Duration,
}

/// Tries one package. With an error nothing is reported: the lease is gone, or the attempt is handed back.
pub async fn build(
    attempt: &Attempt,
    log: &mut SpooledLog,
    source: &JobSource,
    this_try: &Try,
) -> Result<TriedPackage, Interrupt> {
    let source_path = attempt.folder.source(source.position);
    let first_stage = attempt.running.stages().len();
    let mut built = match try_build(attempt, log, source, this_try).await {
        Ok(package) => TriedPackage {
            report: report(source, package.outcome, package.files),
            sandbox: Some(package.sandbox),
            took: package.took,
        },
        Err(error) => TriedPackage {
            report: unfinished(source, error)?,
            sandbox: None,
            took: Duration::ZERO,
        },
    };
    attempt.running.end_stage(Utc::now());
    let stages = attempt.running.stages();
    add_usage(&mut built.report, stages.get(first_stage..), &source_path);
    Ok(built)
}

/// Adds the usage that the builder measures itself, however the try ended: time per stage, size of source and results.
fn add_usage(report: &mut PackageReport, stages: Option<&[StageTime]>, source: &Path) {
    let outcome = &mut report.outcome;
    outcome.stage_seconds = stages::total_seconds(stages.unwrap_or_default());
    outcome.source_bytes = std::fs::metadata(source).ok().map(|source| source.len());
    outcome.result_bytes = Some(report.files.iter().map(|file| file.size).sum());
}

/// The report of a package after a step that failed. With an error nothing is reported.
pub fn unfinished(source: &JobSource, error: Unfinished) -> Result<PackageReport, Interrupt> {
    match error {
        Unfinished::Failed(outcome) => Ok(report(source, *outcome, Vec::new())),
        Unfinished::Interrupted(Interrupt::Cancelled) => {
            Ok(report(source, cancelled(), Vec::new()))
        }
        Unfinished::Interrupted(interrupt @ (Interrupt::Revoked | Interrupt::Stopping)) => {
            Err(interrupt)
        }
    }
}

fn report(source: &JobSource, outcome: Outcome, files: Vec<ManifestFile>) -> PackageReport {
    PackageReport {
        position: source.position,
        source: source.name.clone(),
        outcome,
        files,
    }
}

/// The outcome of a package that the requester cancelled.
pub fn cancelled() -> Outcome {
    Outcome::new(OutcomeKind::Cancelled, "cancelled on request")
}

async fn try_build(
    attempt: &Attempt,
    log: &mut SpooledLog,
    source: &JobSource,
    this_try: &Try,
) -> Result<BuiltPackage, Unfinished> {
    let running = &attempt.running;
    // A repeated try finds the source of the first one.
    if !attempt.ctx.is_noop() && !this_try.is_repeat {
        running.begin_stage(Stage::Fetch, Utc::now());
        crash_point("fetch.begun");
        fetch::fetch(attempt, source).await?;
        crash_point("fetch.done");
        running.end_stage(Utc::now());
    }
    running.advance(Phase::Building);
    let first_stage = running.stages().len();
    let began = Instant::now();
    let run = sandbox::run(attempt, log, setup(attempt, source, this_try)).await?;
    let took = began.elapsed();
    let lost = run.ended.lost_log_bytes;
    if lost > 0 {
        let note = format!("{lost} bytes of the log were lost between sandbox and builder");
        log_line(log, &note).await;
    }
    if let Some(report) = &run.ended.report {
        running.replace_stages(first_stage, stages::of_report(&report.stages));
    }
    let (files, left_behind) = match take_results(attempt, log, source, &run).await {
        Ok(taken) => taken,
        Err(unfinished) => {
            sandbox::discard(attempt, run.handle);
            return Err(unfinished);
        }
    };
    let are_made = collect::has_packages(&files) || left_behind.is_some();
    let mut outcome = classify(&evidence(attempt, &run, are_made, this_try));
    if let Some(message) = left_behind
        && outcome.kind == OutcomeKind::Succeeded
    {
        outcome.kind = OutcomeKind::BuildFailed;
        outcome.stage = Some(Stage::Collect);
        outcome.message = message;
    }
    Ok(BuiltPackage {
        outcome,
        files,
        sandbox: run.handle,
        took,
    })
}

/// What goes into the sandbox: the source, and the binary packages that this attempt has built before.
fn setup(attempt: &Attempt, source: &JobSource, this_try: &Try) -> SandboxInputs {
    let others = attempt
        .record
        .packages
        .iter()
        .filter(|package| package.position != source.position)
        .filter(|package| package.outcome.kind == OutcomeKind::Succeeded);
    let packages = others.flat_map(|package| {
        let folder = attempt.folder.results(package.position);
        package
            .files
            .iter()
            .filter(|file| collect::is_binary(file.name.as_str()))
            .map(move |file| folder.join(file.name.as_str()))
    });
    SandboxInputs {
        source: attempt.folder.source(source.position),
        packages: packages.collect(),
        timeout_seconds: this_try.timeout_seconds,
    }
}

/// Collects the results; gives the files, and why a success does not count where a package was left behind.
async fn take_results(
    attempt: &Attempt,
    log: &mut SpooledLog,
    source: &JobSource,
    run: &SandboxRun,
) -> Result<(Vec<ManifestFile>, Option<String>), Unfinished> {
    if run.cancelled || attempt.ctx.is_noop() {
        return Ok((Vec::new(), None));
    }
    // A phase never goes back, so an attempt whose next package is built after this one stays in "building".
    if attempt.record.job.sources.len() == 1 {
        attempt.running.advance(Phase::Collecting);
    }
    attempt.running.begin_stage(Stage::Collect, Utc::now());
    crash_point("collect.begun");
    let collected = collect::collect(attempt, &run.handle, source.position).await?;
    crash_point("collect.done");
    for refused in &collected.refused {
        let line = format!(
            "{} was left in the sandbox: {}",
            refused.name, refused.reason
        );
        log_line(log, &line).await;
    }
    if let Some(reason) = collected.unread {
        let line = format!("the result folder was not read to its end: {reason}");
        log_line(log, &line).await;
    }
    let left_behind = collect::left_behind(&collected);
    Ok((collect::manifest(&collected), left_behind))
}

fn evidence<'a>(
    attempt: &'a Attempt,
    run: &'a SandboxRun,
    packages_made: bool,
    this_try: &Try,
) -> Evidence<'a> {
    let job = &attempt.record.job;
    let limits = Limits {
        timeout_seconds: this_try.timeout_seconds,
        ..job.limits
    };
    Evidence {
        cancelled: run.cancelled,
        ended: &run.ended,
        facts: &run.facts,
        last_sample: run.last_sample,
        limits,
        caps: attempt.ctx.sandboxes.caps.with_disk(job.disk_mib),
        repositories: &job.repositories,
        packages_made: attempt.ctx.is_noop() || packages_made,
    }
}

/// Appends a line of the builder's own to the build log. A failed write only warns: the next write of output fails too,
/// and that ends the sandbox.
pub async fn log_line(log: &mut SpooledLog, line: &str) {
    if let Err(error) = log.append_line(line).await {
        tracing::warn!("{error}");
    }
}

/// Removes the source of a package that is not tried again: sources are large.
pub async fn remove_source(attempt: &Attempt, source: &JobSource) {
    if attempt.ctx.is_noop() {
        return;
    }
    let path = attempt.folder.source(source.position);
    let remove = move || match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    if let Err(error) = on_disk(remove).await {
        tracing::warn!("cannot remove a source that is not needed any more: {error}");
    }
}
