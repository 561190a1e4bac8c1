//! Claims a delivered job for which room is reserved, settles the delivery, and begins the work.

use std::sync::Arc;
use std::time::Duration;

use millrace_bus::{Delivery, Verdict};
use millrace_chassis::{Backoff, BackoffExt, crash_point, random_bytes};
use millrace_domain::{Phase, Token};
use millrace_wire::{ClaimGranted, ClaimRequest, DeclineReason, DeclineRequest, JobV1};
use tokio::time::Instant;

use crate::attempt::{self, Attempt, decline_until};
use crate::attempt_registry::RunningAttempt;
use crate::context::Context;
use crate::engine::room::Reservation;
use crate::frontend::call_error::CallError;
use crate::frontend::client::Claimed;
use crate::spool::atomic_file::Durability;
use crate::spool::{AttemptFolder, Record};

/// How long the claim of a delivery is tried again while the frontend does not answer. The broker requeues a delivery
/// that is not acknowledged within 30 minutes.
const CLAIM_TIMEOUT: Duration = Duration::from_mins(10);

/// How a claim ended.
enum ClaimResult {
    Granted(ClaimGranted),
    /// The attempt is not this builder's; the delivery is acknowledged.
    NotOurs,
    /// The frontend did not answer in time.
    Away,
    /// The builder stops before the frontend has answered.
    Stopping,
}

/// Claims a delivered job and, when the claim is granted, runs the attempt to its end.
pub async fn claim_and_run(
    ctx: Arc<Context>,
    job: JobV1,
    delivery: Delivery,
    reservation: Reservation,
) {
    let image = job.chroot.image.clone();
    if !ctx.missing_images.has(&ctx.runtime, &image).await {
        return decline_job(ctx, job, delivery, DeclineReason::NoRoom, Some(image)).await;
    }
    let folder = ctx.spool.folder(job.attempt_id);
    let mut record = match record_job(&ctx, &folder, job.clone()).await {
        Ok(record) => record,
        Err(error) => {
            tracing::error!("cannot write to the spool, declining a job: {error}");
            // Before the room is free again: the builder takes no more jobs until a write has succeeded.
            ctx.disk.write_failed(&error);
            remove_folder(&ctx, folder).await;
            // Requeued it would be delivered again at once; the frontend delays a declined job.
            return decline(ctx, job, delivery, DeclineReason::NoRoom).await;
        }
    };
    ctx.disk.write_succeeded();
    let id = record.job.attempt_id;
    crash_point("nonce.kept");
    match request_claim(&ctx, &record).await {
        ClaimResult::Granted(granted) => {
            crash_point("claim.granted");
            record.lease_token = Some(granted.lease_token.clone());
            let running = RunningAttempt::new(id, granted.lease_token, Phase::Fetching, Vec::new());
            if !ctx.registry.insert(&running) {
                // Delivered twice while the frontend did not answer, and claimed twice with one nonce.
                return acknowledge(delivery).await;
            }
            let attempt = Attempt {
                ctx,
                running,
                folder,
                record,
            };
            record_lease(&attempt).await;
            crash_point("lease.kept");
            acknowledge(delivery).await;
            crash_point("order.acknowledged");
            attempt::run(attempt, reservation).await;
        }
        ClaimResult::NotOurs => {
            crash_point("claim.refused");
            remove_folder(&ctx, folder).await;
            crash_point("refused.forgotten");
            acknowledge(delivery).await;
        }
        // The claim may have been recorded, so the nonce stays on the disk.
        ClaimResult::Away => requeue(delivery).await,
        ClaimResult::Stopping => decline(ctx, record.job, delivery, DeclineReason::Stopping).await,
    }
}

/// Declines a job for a reason other than a missing image, and acknowledges its delivery.
pub async fn decline(ctx: Arc<Context>, job: JobV1, delivery: Delivery, reason: DeclineReason) {
    decline_job(ctx, job, delivery, reason, None).await;
}

/// Tells the frontend that this builder does not take a job. Then the delivery is acknowledged, or requeued when the
/// frontend does not answer.
async fn decline_job(
    ctx: Arc<Context>,
    job: JobV1,
    delivery: Delivery,
    reason: DeclineReason,
    missing_image: Option<String>,
) {
    let decline = DeclineRequest {
        attempt_id: job.attempt_id,
        lease_token: None,
        reason,
        missing_image,
        hindrances: ctx.hindrances(),
    };
    crash_point("decline.begun");
    if decline_until(&ctx, &decline).await {
        crash_point("decline.told");
        acknowledge(delivery).await;
    } else {
        requeue(delivery).await;
    }
}

/// Writes the job with a new nonce to the spool, or reads the record of an earlier delivery of the same job.
async fn record_job(ctx: &Context, folder: &AttemptFolder, job: JobV1) -> std::io::Result<Record> {
    let folder = folder.clone();
    ctx.on_disk(move || {
        // The same job may have been delivered a moment ago and even be claimed by now. So the nonce stays the same: a
        // refusal of another nonce would remove the folder that the work uses.
        if let Ok(record) = folder.read() {
            return Ok(record);
        }
        let record = Record {
            job,
            nonce: Token::from_bytes(random_bytes().map_err(std::io::Error::other)?),
            lease_token: None,
            phase: Phase::Fetching,
            packages: Vec::new(),
            stages: Vec::new(),
            image_digest: None,
            image_baked_at: None,
        };
        folder.make()?;
        folder.write(&record, Durability::ProcessCrash)?;
        Ok(record)
    })
    .await
}

/// Asks the frontend for the attempt until it answers, the time is used up, or the builder stops.
async fn request_claim(ctx: &Context, record: &Record) -> ClaimResult {
    let claim = ClaimRequest {
        attempt_id: record.job.attempt_id,
        nonce: record.nonce.clone(),
    };
    let give_up = Instant::now() + CLAIM_TIMEOUT;
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        match ctx.frontend.claim(&claim).await {
            Ok(Claimed::Granted(granted)) => return ClaimResult::Granted(granted),
            Ok(Claimed::Refused(reason)) => {
                tracing::debug!(?reason, "the claim was refused");
                return ClaimResult::NotOurs;
            }
            Err(CallError::Away(reason) | CallError::StoreFull(reason)) => {
                tracing::debug!("the frontend does not answer the claim yet: {reason}");
            }
            Err(
                error @ (CallError::LeaseGone | CallError::Refused { .. } | CallError::Local(_)),
            ) => {
                // The offer runs out and the frontend makes a new one; the same claim would get the same answer.
                tracing::error!("the frontend refuses the claim as invalid: {error}");
                return ClaimResult::NotOurs;
            }
        }
        if Instant::now() >= give_up {
            return ClaimResult::Away;
        }
        if !backoff.pause(ctx.shutdown.soft()).await {
            return ClaimResult::Stopping;
        }
    }
}

/// Writes the lease to the spool: from here on a restarted builder goes on with the attempt.
async fn record_lease(attempt: &Attempt) {
    let folder = attempt.folder.clone();
    let record = attempt.record.clone();
    let write = move || folder.write(&record, Durability::ProcessCrash);
    if let Err(error) = attempt.ctx.on_disk(write).await {
        // The work goes on. After a restart the lease would be unknown and run out.
        tracing::error!("cannot write the lease to the spool: {error}");
        attempt.ctx.disk.write_failed(&error);
    }
}

async fn remove_folder(ctx: &Context, folder: AttemptFolder) {
    if let Err(error) = ctx.on_disk(move || folder.remove()).await {
        tracing::warn!("cannot remove the folder of a job that was not taken: {error}");
    }
}

async fn acknowledge(delivery: Delivery) {
    if delivery.ack().await.is_err() {
        tracing::debug!(
            "an acknowledgement was lost; the job will be delivered again and recognised"
        );
    }
}

/// Puts a delivery back into its queue, for another builder or for later.
async fn requeue(delivery: Delivery) {
    if delivery.settle(Verdict::Again).await.is_err() {
        tracing::debug!("a delivery was requeued with its channel");
    }
}
