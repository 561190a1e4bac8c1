//! Builds the packages of an attempt, one after the other, and writes the results to the spool. With that the attempt
//! needs neither sandbox nor room any more; upload and report follow in `finish.rs`.

use millrace_chassis::crash_point;
use millrace_domain::{OutcomeKind, Phase, Stage};
use millrace_sandbox::SandboxHandle;
use millrace_wire::{JobSource, PackageReport};
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use crate::attempt::Attempt;
use crate::attempt::outcome::{self, disk_failed, ends_the_attempt};
use crate::attempt::package;
use crate::attempt::package::log_line;
use crate::attempt::package_order::{PackageOrder, Try, may_build_after_others};
use crate::attempt::reuse::reuse_finished;
use crate::attempt::sandbox;
use crate::attempt::spool_wait::SpoolWait;
use crate::attempt_registry::Interrupt;
use crate::log::ship::{Unshipped, ship};
use crate::log::spool::{LogError, SpooledLog};
use crate::spool::atomic_file::Durability;

/// An attempt whose packages are built or have failed, and which needs no sandbox any more.
pub struct BuiltPackages {
    /// The task that ships the log; gives the size in bytes that the frontend has.
    pub shipping: JoinHandle<Result<u64, Unshipped>>,
}

/// Builds all packages. With an error nothing is reported: the lease is gone, or the attempt is handed back.
pub async fn build_packages(attempt: &mut Attempt) -> Result<BuiltPackages, Interrupt> {
    let mut log = match SpooledLog::open(&attempt.folder.log()) {
        Ok(log) => log,
        Err(LogError(error)) => return Ok(without_log(attempt, &error)),
    };
    let shipping = tokio::spawn(
        ship(
            attempt.shipment(),
            log.progress(),
            attempt.ctx.leaving.clone(),
        )
        .in_current_span(),
    );
    let built = build_all(attempt, &mut log).await;
    let outcome = outcome::of_packages(&attempt.record.packages);
    if built.is_ok() {
        log_line(&mut log, &format!("{}: {}", outcome.kind, outcome.message)).await;
    }
    let ended = log.end().await;
    let last = match built {
        Ok(last) => last,
        Err(interrupt) => {
            shipping.abort();
            return Err(interrupt);
        }
    };
    if let Err(error) = ended {
        tracing::error!("{error}");
    }
    tracing::info!(outcome = %outcome.kind, "ended: {}", outcome.message);
    crash_point("results.judged");
    record_spooled(attempt).await;
    crash_point("results.kept");
    // The sandbox has the only copy of the results until a restart would find them in the spool.
    if let Some(handle) = last {
        sandbox::discard(attempt, handle);
    }
    Ok(BuiltPackages { shipping })
}

/// The outcome when the log cannot be opened: a failure of this builder's disk, so another builder gets the attempt.
fn without_log(attempt: &mut Attempt, error: &std::io::Error) -> BuiltPackages {
    let outcome = disk_failed(error, Stage::Fetch);
    tracing::error!("cannot open the log in the spool: {error}");
    let first = attempt.record.job.sources.first();
    attempt.record.packages = first
        .map(|source| PackageReport {
            position: source.position,
            source: source.name.clone(),
            outcome,
            files: Vec::new(),
        })
        .into_iter()
        .collect();
    attempt.running.advance(Phase::Spooled);
    BuiltPackages {
        shipping: tokio::spawn(async { Ok(0) }),
    }
}

/// Builds every package, again where one that was built since may help. Gives the last sandbox, which still holds its
/// results.
async fn build_all(
    attempt: &mut Attempt,
    log: &mut SpooledLog,
) -> Result<Option<SandboxHandle>, Interrupt> {
    log_job(attempt, log).await;
    if !attempt.ctx.is_noop() {
        // A missing image is reported when the sandbox cannot be made.
        let image = &attempt.record.job.chroot.image;
        if let Ok(facts) = attempt.ctx.runtime.image_facts(image).await {
            attempt.record.image_digest = Some(facts.digest);
            attempt.record.image_baked_at = facts.baked_at;
        }
    }
    let sources = attempt.record.job.sources.clone();
    let mut order = PackageOrder::new(sources.len(), attempt.record.job.limits.timeout_seconds);
    for (index, source) in sources.iter().enumerate() {
        match reuse_finished(attempt, log, source).await {
            Ok(true) => order.skip(index),
            Ok(false) => {}
            Err(unfinished) => {
                let report = package::unfinished(source, unfinished)?;
                attempt.record.packages.push(report);
                add_cancelled(attempt, &sources);
                return Ok(None);
            }
        }
    }
    let mut last = None;
    while let Some(this_try) = order.next() {
        let Some(source) = sources.get(this_try.index) else {
            break;
        };
        log_package_start(attempt, log, &this_try).await;
        if let Some(handle) = last.take() {
            sandbox::discard(attempt, handle);
        }
        let built = package::build(attempt, log, source, &this_try).await?;
        last = built.sandbox;
        let kind = built.report.outcome.kind;
        order.record_try(&this_try, kind, built.took);
        record_report(attempt, &this_try, built.report);
        if !may_build_after_others(kind) {
            package::remove_source(attempt, source).await;
        }
        // The others are built after a package that fails, but not after a fault of Millrace or a cancel.
        if ends_the_attempt(kind) {
            break;
        }
        if sources.len() > 1 {
            attempt.record.stages = attempt.running.stages();
            write_outcome(attempt).await;
        }
    }
    for source in &sources {
        package::remove_source(attempt, source).await;
    }
    add_cancelled(attempt, &sources);
    Ok(last)
}

/// Writes to the log which package begins, where the attempt has several.
async fn log_package_start(attempt: &Attempt, log: &mut SpooledLog, this_try: &Try) {
    let sources = &attempt.record.job.sources;
    let Some(source) = sources.get(this_try.index).filter(|_| sources.len() > 1) else {
        return;
    };
    let again = if this_try.is_repeat {
        ", again, since another package was built"
    } else {
        ""
    };
    let (number, count) = (this_try.index + 1, sources.len());
    let line = format!("package {number} of {count}: {}{again}", source.name);
    log_line(log, &line).await;
}

/// Records the report of a try in place of an earlier try's. A repeated try that was given less than the package's time
/// limit and timed out keeps the earlier outcome: the short time may be the only reason.
fn record_report(attempt: &mut Attempt, this_try: &Try, report: PackageReport) {
    let packages = &mut attempt.record.packages;
    let earlier = packages
        .iter_mut()
        .find(|package| package.position == report.position);
    match earlier {
        Some(earlier) if this_try.is_cut_short && report.outcome.kind == OutcomeKind::TimedOut => {
            let note =
                "; tried again, until the packages together had used the sum of their time limits";
            earlier.outcome.message.push_str(note);
            earlier.files = report.files;
        }
        Some(earlier) => *earlier = report,
        None => packages.push(report),
    }
    packages.sort_by_key(|package| package.position);
}

/// After a cancel, gives the packages that were not begun the outcome `cancelled`, too.
fn add_cancelled(attempt: &mut Attempt, sources: &[JobSource]) {
    let packages = &mut attempt.record.packages;
    let is_cancelled = packages
        .iter()
        .any(|package| package.outcome.kind == OutcomeKind::Cancelled);
    let begun: Vec<u32> = packages.iter().map(|package| package.position).collect();
    for source in sources.iter().filter(|_| is_cancelled) {
        if !begun.contains(&source.position) {
            packages.push(PackageReport {
                position: source.position,
                source: source.name.clone(),
                outcome: package::cancelled(),
                files: Vec::new(),
            });
        }
    }
    packages.sort_by_key(|package| package.position);
}

/// Writes the first line of the log: which attempt this is, its limits, and the builder.
async fn log_job(attempt: &Attempt, log: &mut SpooledLog) {
    let job = &attempt.record.job;
    let line = format!(
        "build {}, task {}, attempt {}, chroot {}, {} MiB, {} s, on builder {}",
        job.build_id,
        job.task_id,
        job.attempt_number,
        job.chroot.name,
        job.limits.memory_mib,
        job.limits.timeout_seconds,
        attempt.ctx.name,
    );
    log_line(log, &line).await;
}

/// Records that the results are in the spool, so that a restarted builder goes on with them. Waits for space while the
/// disk is full.
pub(super) async fn record_spooled(attempt: &mut Attempt) {
    let packages = &attempt.record.packages;
    let has_files = packages.iter().any(|package| !package.files.is_empty());
    attempt.record.phase = Phase::Spooled;
    attempt.record.stages = attempt.running.stages();
    if has_files {
        write_record(attempt).await;
    } else if !attempt.ctx.is_noop() {
        write_outcome(attempt).await;
    }
    attempt.running.advance(Phase::Spooled);
    if has_files {
        attempt.ctx.heartbeat_wake.notify_one();
    }
}

/// Records an outcome without files, so that a restart does not build the package again. Does not wait for space on a
/// full disk: the report follows at once and does not depend on this record.
async fn write_outcome(attempt: &Attempt) {
    let (folder, record) = (attempt.folder.clone(), attempt.record.clone());
    let write = move || folder.write(&record, Durability::ProcessCrash);
    if let Err(error) = attempt.ctx.on_disk(write).await {
        tracing::warn!("cannot write the outcome to the spool: {error}");
    }
}

/// Writes the record, and again after pauses while the disk is full.
async fn write_record(attempt: &Attempt) {
    let mut wait = SpoolWait::new(&attempt.ctx);
    let durability = attempt.ctx.results_durability();
    loop {
        let (folder, record) = (attempt.folder.clone(), attempt.record.clone());
        let write = move || folder.write(&record, durability);
        let Err(error) = attempt.ctx.on_disk(write).await else {
            return;
        };
        tracing::warn!("cannot record in the spool that the results are there: {error}");
        // An interrupt ends only the waiting: finished work is uploaded and reported all the same.
        if !wait.pause(attempt, &error).await.unwrap_or(false) {
            tracing::error!("a restart before the upload would lose the results");
            return;
        }
    }
}
