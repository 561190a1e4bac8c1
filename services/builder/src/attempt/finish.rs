//! The last part of an attempt: uploads files and log to the frontend, publishes the report to the broker, and waits
//! until the frontend has closed the attempt. The broker's confirm is not enough: the spool is removed only when a
//! heartbeat's answer says that the attempt is closed, so everything here can be repeated. A cancelled attempt does not
//! wait for a broker that is down: it is handed back over HTTP, which ends it.

use std::time::Duration;

use chrono::Utc;
use millrace_bus::{Outgoing, Route};
use millrace_chassis::{Backoff, BackoffExt, crash_point};
use millrace_domain::{Outcome, OutcomeKind, Phase, Stage};
use millrace_wire::{FinishedV1, MissingFile};

use crate::attempt::Attempt;
use crate::attempt::build_packages::BuiltPackages;
use crate::attempt::outcome;
use crate::attempt::upload::{self, NotUploaded, SpooledFile};
use crate::attempt_registry::ReportReply;
use crate::log::ship::Unshipped;

/// How long the broker may take to confirm the report of a cancelled attempt.
const CANCEL_REPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// How the last part of an attempt ended.
#[derive(Debug, PartialEq, Eq)]
enum Finish {
    /// The attempt is closed: its folder in the spool is removed.
    Closed,
    /// The builder stops: the folder stays, and the next start goes on with it.
    LeftInSpool,
}

/// Uploads and reports an attempt whose packages are built, until the frontend has closed it.
pub async fn finish(mut attempt: Attempt, built: BuiltPackages) {
    let finish = match upload_and_write_report(&mut attempt, built).await {
        Ok(report) => report_until_closed(&attempt, &report).await,
        Err(finish) => finish,
    };
    end(attempt, finish).await;
}

/// Goes on with an attempt whose report was written before a restart: publishes it until the frontend has closed the
/// attempt.
pub async fn finish_reported(attempt: Attempt, report: FinishedV1) {
    let finish = report_until_closed(&attempt, &report).await;
    end(attempt, finish).await;
}

async fn end(attempt: Attempt, finish: Finish) {
    match finish {
        Finish::Closed => attempt.forget().await,
        Finish::LeftInSpool => {
            tracing::info!("the attempt stays in the spool for the next start");
        }
    }
}

/// Uploads files and log, and writes the report.
async fn upload_and_write_report(
    attempt: &mut Attempt,
    built: BuiltPackages,
) -> Result<FinishedV1, Finish> {
    let files = upload::all_files(attempt);
    if !files.is_empty() {
        attempt.running.begin_stage(Stage::Upload, Utc::now());
    }
    let refusal = upload_all(attempt, files).await?;
    let log_size = wait_for_log(attempt, built).await?;
    attempt.running.end_stage(Utc::now());
    let report = report_of(attempt, refusal, log_size);
    crash_point("report.unwritten");
    let folder = attempt.folder.clone();
    let durability = attempt.ctx.results_durability();
    let written = report.clone();
    let write = move || folder.write_report(&written, durability);
    if let Err(error) = attempt.ctx.on_disk(write).await {
        // The report is sent all the same; only a restart before the frontend has it would have to upload again.
        tracing::error!("cannot write the report to the spool: {error}");
    }
    crash_point("report.written");
    Ok(report)
}

/// Uploads files. When the frontend refuses a file for good, that becomes the attempt's outcome.
async fn upload_all(
    attempt: &Attempt,
    files: Vec<SpooledFile>,
) -> Result<Option<Box<Outcome>>, Finish> {
    match upload::upload(attempt, files).await {
        Ok(()) => Ok(None),
        Err(NotUploaded::Refused(outcome)) => {
            tracing::error!("{}", outcome.message);
            Ok(Some(outcome))
        }
        Err(NotUploaded::LeaseGone) => Err(Finish::Closed),
        Err(NotUploaded::Stopped) => Err(Finish::LeftInSpool),
    }
}

/// Waits until the frontend has the whole log; gives its size in bytes, 0 when it could not be shipped.
async fn wait_for_log(attempt: &Attempt, built: BuiltPackages) -> Result<u64, Finish> {
    let mut shipping = built.shipping;
    let shipped = tokio::select! {
        biased;
        () = attempt.running.revoked() => {
            shipping.abort();
            return Err(Finish::Closed);
        }
        shipped = &mut shipping => shipped,
    };
    match shipped {
        Ok(Ok(size)) => Ok(size),
        Ok(Err(Unshipped::LeaseGone)) => Err(Finish::Closed),
        Ok(Err(Unshipped::Stopped)) => Err(Finish::LeftInSpool),
        Ok(Err(error @ (Unshipped::Refused(_) | Unshipped::Spool(_)))) => {
            // A result without the end of its log is better than no result.
            tracing::error!("the log was not shipped whole: {error}");
            Ok(0)
        }
        Err(error) => {
            tracing::error!("shipping the log failed: {error}");
            Ok(0)
        }
    }
}

fn report_of(attempt: &Attempt, refusal: Option<Box<Outcome>>, log_size: u64) -> FinishedV1 {
    let record = &attempt.record;
    let mut packages = record.packages.clone();
    if let Some(outcome) = refusal {
        // The frontend cannot accept files that did not arrive, so the report has the failure and no files.
        for package in &mut packages {
            package.files.clear();
            package.outcome = (*outcome).clone();
        }
    }
    FinishedV1 {
        attempt_id: attempt.running.id(),
        task_id: record.job.task_id,
        builder_id: attempt.ctx.builder,
        lease_token: attempt.running.lease().clone(),
        outcome: outcome::of_packages(&packages),
        packages,
        stages: attempt.running.stages(),
        log_size,
        image_digest: record.image_digest.clone(),
        image_baked_at: record.image_baked_at,
    }
}

/// Publishes the report and waits for the reply; uploads missing files and publishes again, until the frontend has closed
/// the attempt.
async fn report_until_closed(attempt: &Attempt, report: &FinishedV1) -> Finish {
    // The frontend answers "missing" until it has read the next report, so rounds are spaced.
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
    loop {
        attempt.running.expect_reply();
        if let Err(finish) = publish(attempt, report).await {
            return finish;
        }
        crash_point("report.confirmed");
        attempt.running.advance(Phase::Reported);
        attempt.ctx.heartbeat_wake.notify_one();
        let missing = match wait_for_missing(attempt).await {
            Ok(missing) => missing,
            Err(finish) => return finish,
        };
        crash_point("report.incomplete");
        tracing::warn!(
            files = missing.len(),
            "files are missing at the frontend, uploading them again"
        );
        if !backoff.pause(&attempt.ctx.leaving).await {
            return Finish::LeftInSpool;
        }
        if let Err(finish) = upload_all(attempt, files_named(attempt, &missing)).await {
            return finish;
        }
    }
}

/// Waits for the frontend's reply to the report; gives the files that it does not have.
async fn wait_for_missing(attempt: &Attempt) -> Result<Vec<MissingFile>, Finish> {
    let mut replies = attempt.running.replies();
    let reply = attempt
        .ctx
        .leaving
        .run_until_cancelled(replies.wait_for(|reply| *reply != ReportReply::Pending))
        .await;
    match reply.as_ref().map(|reply| reply.as_deref()) {
        Some(Ok(ReportReply::Missing(files))) => Ok(files.clone()),
        Some(Ok(ReportReply::Closed | ReportReply::Revoked)) => Err(Finish::Closed),
        // The attempt owns the sender, so an error means that it is being dropped.
        Some(Ok(ReportReply::Pending) | Err(_)) | None => Err(Finish::LeftInSpool),
    }
}

/// The spooled files that the frontend named as missing.
fn files_named(attempt: &Attempt, missing: &[MissingFile]) -> Vec<SpooledFile> {
    let mut files = upload::all_files(attempt);
    files.retain(|spooled| {
        missing
            .iter()
            .any(|file| file.position == spooled.position && file.name == spooled.file.name)
    });
    files
}

/// Publishes the report until the broker confirms it.
async fn publish(attempt: &Attempt, report: &FinishedV1) -> Result<(), Finish> {
    let id = attempt.running.id().0;
    let body = match millrace_wire::encode(id, Utc::now(), report).map(|body| body.to_string()) {
        Ok(body) => body.into_bytes(),
        Err(error) => {
            tracing::error!("the report cannot be encoded: {error}");
            return Err(Finish::LeftInSpool);
        }
    };
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    let is_cancelled = report.outcome.kind == OutcomeKind::Cancelled;
    loop {
        let publishing = async {
            attempt.ctx.publisher.ready().await;
            let outgoing = Outgoing {
                route: Route::AttemptFinished,
                message_id: id,
                body: body.clone(),
            };
            attempt.ctx.publisher.publish(outgoing).await
        };
        let published = tokio::select! {
            biased;
            () = attempt.running.revoked() => return Err(Finish::Closed),
            () = attempt.ctx.leaving.cancelled() => return Err(Finish::LeftInSpool),
            published = publishing => published,
            () = tokio::time::sleep(CANCEL_REPORT_TIMEOUT), if is_cancelled => {
                if attempt.decline().await {
                    tracing::info!("the broker does not answer, the cancelled attempt was handed back over HTTP");
                    return Err(Finish::Closed);
                }
                continue;
            }
        };
        match published {
            Ok(()) => return Ok(()),
            Err(error) => {
                tracing::warn!("the broker has not confirmed the report yet: {error}");
            }
        }
        if !backoff.pause(&attempt.ctx.leaving).await {
            return Err(Finish::LeftInSpool);
        }
    }
}
