//! Asks for an order that was delivered and for which room is reserved, settles the delivery, and begins the work.

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

/// How long a delivery is kept for a frontend that is away. A broker takes it away after 30 minutes.
const CLAIM_TIMEOUT: Duration = Duration::from_mins(10);

/// How asking ended.
enum ClaimResult {
    Granted(ClaimGranted),
    /// The order is not for this builder; it is done with.
    NotOurs,
    /// No answer in time.
    Away,
    /// The builder stops.
    Stopping,
}

/// Takes a delivered order.
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
    let mut record = match record_order(&ctx, &folder, job.clone()).await {
        Ok(record) => record,
        Err(error) => {
            tracing::error!("cannot write to the spool, declining a job: {error}");
            // Before the room is given back: nothing more is taken until a write has succeeded.
            ctx.disk.write_failed(&error);
            remove_folder(&ctx, folder).await;
            // Back to the queue it would come again at once; the frontend keeps it for a while.
            return decline(ctx, job, delivery, DeclineReason::NoRoom).await;
        }
    };
    ctx.disk.write_succeeded();
    let id = record.job.attempt_id;
    crash_point!("nonce.kept");
    match request_claim(&ctx, &record).await {
        ClaimResult::Granted(granted) => {
            crash_point!("claim.granted");
            record.lease_token = Some(granted.lease_token.clone());
            let running = RunningAttempt::new(id, granted.lease_token, Phase::Fetching, Vec::new());
            if !ctx.registry.insert(&running) {
                // Delivered twice while the frontend was away, and claimed twice with one nonce.
                return acknowledge(delivery).await;
            }
            let attempt = Attempt {
                ctx,
                running,
                folder,
                record,
            };
            record_lease(&attempt).await;
            crash_point!("lease.kept");
            acknowledge(delivery).await;
            crash_point!("order.acknowledged");
            attempt::run(attempt, reservation).await;
        }
        ClaimResult::NotOurs => {
            crash_point!("claim.refused");
            remove_folder(&ctx, folder).await;
            crash_point!("refused.forgotten");
            acknowledge(delivery).await;
        }
        // The claim may have been recorded: the nonce stays on the disk.
        ClaimResult::Away => requeue(delivery).await,
        ClaimResult::Stopping => decline(ctx, record.job, delivery, DeclineReason::Stopping).await,
    }
}

/// Declines an order for which there is no room, and takes it off the queue.
pub async fn decline(ctx: Arc<Context>, job: JobV1, delivery: Delivery, reason: DeclineReason) {
    decline_job(ctx, job, delivery, reason, None).await;
}

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
    crash_point!("decline.begun");
    if decline_until(&ctx, &decline).await {
        crash_point!("decline.told");
        acknowledge(delivery).await;
    } else {
        requeue(delivery).await;
    }
}

/// Keeps the order with a nonce, an earlier one where the same order came before.
async fn record_order(
    ctx: &Context,
    folder: &AttemptFolder,
    job: JobV1,
) -> std::io::Result<Record> {
    let folder = folder.clone();
    ctx.on_disk(move || {
        // Delivered twice at almost the same time the order may even be claimed by now: the nonce stays the same, or
        // the refusal of another one would take the folder away from under the work.
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

async fn request_claim(ctx: &Context, record: &Record) -> ClaimResult {
    let claim = ClaimRequest {
        attempt_id: record.job.attempt_id,
        nonce: record.nonce.clone(),
    };
    let decline_job = Instant::now() + CLAIM_TIMEOUT;
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        match ctx.frontend.claim(&claim).await {
            Ok(Claimed::Granted(granted)) => return ClaimResult::Granted(granted),
            Ok(Claimed::Refused(reason)) => {
                tracing::debug!(attempt.id = %claim.attempt_id, ?reason, "the claim was refused");
                return ClaimResult::NotOurs;
            }
            Err(CallError::Away(reason) | CallError::StoreFull(reason)) => {
                tracing::debug!(attempt.id = %claim.attempt_id, "the claim waits: {reason}");
            }
            Err(error) => {
                // The offer runs out and is made anew; asking the same again would get the same answer.
                tracing::error!(attempt.id = %claim.attempt_id, "the frontend does not understand a claim: {error}");
                return ClaimResult::NotOurs;
            }
        }
        if Instant::now() >= decline_job {
            return ClaimResult::Away;
        }
        if !backoff.pause(ctx.shutdown.soft()).await {
            return ClaimResult::Stopping;
        }
    }
}

/// From here on a restarted builder knows what it has.
async fn record_lease(attempt: &Attempt) {
    let folder = attempt.folder.clone();
    let record = attempt.record.clone();
    let write = move || folder.write(&record, Durability::ProcessCrash);
    if let Err(error) = attempt.ctx.on_disk(write).await {
        // The work can go on; only a restart would not know of it, and the lease would run out.
        tracing::error!(attempt.id = %attempt.running.id(), "cannot keep the lease in the spool: {error}");
        attempt.ctx.disk.write_failed(&error);
    }
}

async fn remove_folder(ctx: &Context, folder: AttemptFolder) {
    if let Err(error) = ctx.on_disk(move || folder.remove()).await {
        tracing::warn!("cannot remove a refused attempt from the spool: {error}");
    }
}

async fn acknowledge(delivery: Delivery) {
    if delivery.ack().await.is_err() {
        tracing::debug!(
            "an acknowledgement was lost; the same order will come again and be recognised"
        );
    }
}

/// Back to the queue, for another builder or another time.
async fn requeue(delivery: Delivery) {
    if delivery.settle(Verdict::Again).await.is_err() {
        tracing::debug!("a delivery went back with its channel");
    }
}
