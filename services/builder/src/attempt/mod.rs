//! A claimed attempt, from its first step until the frontend has closed it:
//!
//! ```text
//!            ┌─ each package, failed ones again ┐
//! claimed ─▶ fetch ─▶ build in a sandbox ─▶ collect ─▶ spooled ─▶ upload ─▶ report ─▶ wait ─▶ closed
//!              │            │                  │                    ▲                   │
//!              └────────────┴───── cancelled: report that           └──── missing ──────┘
//!                 stop: hand back · lease gone: drop everything
//! ```
//!
//! A builder that restarts before "spooled" reports the attempt as `builder_lost`; after it, the upload goes on.

pub(crate) mod build_packages;
pub(crate) mod collect;
pub(crate) mod fetch;
pub(crate) mod finish;
pub(crate) mod outcome;
pub(crate) mod package;
pub(crate) mod package_order;
pub(crate) mod recover;
pub(crate) mod reuse;
pub(crate) mod sandbox;
pub(crate) mod spool_wait;
pub(crate) mod srpm;
pub(crate) mod stages;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod upload;

use std::sync::Arc;
use std::time::Duration;

use millrace_chassis::{Backoff, BackoffExt, crash_point};
use millrace_domain::AttemptId;
use millrace_wire::{DeclineReason, DeclineRequest};
use tracing::Span;

use crate::attempt_registry::{Interrupt, RunningAttempt};
use crate::context::Context;
use crate::engine::room::Reservation;
use crate::frontend::call_error::CallError;
use crate::log::ship::Shipment;
use crate::spool::{AttemptFolder, Record};

/// The tries to decline a job while the frontend does not answer.
const DECLINE_TRIES: u32 = 10;

/// The span of everything that is done for an attempt: each line logged inside carries `attempt.id`, so lines inside do
/// not name it again. It has the level of errors, so no log filter that lets a line through drops the span.
pub fn span(attempt: AttemptId) -> Span {
    tracing::error_span!("attempt", attempt.id = %attempt)
}

/// A claimed attempt with all that the steps of its work need.
pub struct Attempt {
    /// The builder's shared parts.
    pub ctx: Arc<Context>,
    /// Shared with the heartbeat, which reads the progress and brings the frontend's verdicts.
    pub running: Arc<RunningAttempt>,
    /// The attempt's folder in the spool.
    pub folder: AttemptFolder,
    /// The content of `attempt.json`, ahead of the file until the next write.
    pub record: Record,
}

impl Attempt {
    fn shipment(&self) -> Shipment {
        Shipment {
            attempt: self.running.id(),
            lease: self.running.lease().clone(),
            path: self.folder.log(),
            frontend: self.ctx.frontend.clone(),
        }
    }

    /// Removes a closed attempt from the registry and from the spool.
    async fn forget(self) {
        crash_point("attempt.closed");
        self.ctx.registry.remove(self.running.id());
        let folder = self.folder.clone();
        if let Err(error) = self.ctx.on_disk(move || folder.remove()).await {
            tracing::error!("cannot remove a closed attempt from the spool: {error}");
        }
        crash_point("attempt.forgotten");
    }

    /// Hands the attempt back to the frontend, which does not count it as a try. When the frontend does not answer, the
    /// attempt stays in the spool and the next start reports it as lost.
    async fn hand_back(self) {
        crash_point("handback.begun");
        if self.decline().await {
            crash_point("handback.told");
            tracing::info!("handed back");
            self.forget().await;
        } else {
            tracing::warn!(
                "not handed back, the frontend does not answer; the next start reports the attempt as lost"
            );
        }
    }

    /// Declines the attempt with its lease; false when the frontend does not answer.
    async fn decline(&self) -> bool {
        let decline = DeclineRequest {
            attempt_id: self.running.id(),
            lease_token: Some(self.running.lease().clone()),
            reason: DeclineReason::Stopping,
            missing_image: None,
            hindrances: self.ctx.hindrances(),
        };
        decline_until(&self.ctx, &decline).await
    }
}

/// Declines a job, and tries again while the frontend does not answer: up to ten times, and no longer than a stopping
/// builder waits. False when the frontend has not answered.
pub async fn decline_until(ctx: &Context, decline: &DeclineRequest) -> bool {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
    for _ in 0..DECLINE_TRIES {
        let call = ctx.frontend.decline(decline);
        match ctx.leaving.run_until_cancelled(call).await {
            None => return false,
            Some(Ok(()) | Err(CallError::LeaseGone)) => return true,
            Some(Err(CallError::Away(reason) | CallError::StoreFull(reason))) => {
                tracing::debug!("cannot decline yet: {reason}");
            }
            Some(Err(error @ (CallError::Refused { .. } | CallError::Local(_)))) => {
                tracing::warn!("cannot decline: {error}");
                return true;
            }
        }
        if !backoff.pause(&ctx.leaving).await {
            return false;
        }
    }
    false
}

/// Runs a claimed attempt to its end. Its room is free again as soon as the results are in the spool.
pub async fn run(mut attempt: Attempt, reservation: Reservation) {
    let job = &attempt.record.job;
    tracing::info!(task.id = %job.task_id, build.id = %job.build_id, chroot = %job.chroot.name, "claimed");
    let built = build_packages::build_packages(&mut attempt).await;
    drop(reservation);
    match built {
        Ok(finished) => finish::finish(attempt, finished).await,
        Err(Interrupt::Stopping) => attempt.hand_back().await,
        Err(Interrupt::Revoked | Interrupt::Cancelled) => {
            tracing::info!("the lease is gone, dropping the attempt");
            attempt.forget().await;
        }
    }
}
