//! A claimed attempt, from its first step to the frontend's last word:
//!
//! ```text
//!            ┌─ each package, failed ones again ┐
//! claimed ─▶ fetch ─▶ build in a sandbox ─▶ collect ─▶ spooled ─▶ upload ─▶ report ─▶ wait ─▶ closed
//!              │            │                  │                    ▲                   │
//!              └────────────┴───── cancelled: report that           └──── missing ──────┘
//!                 stop: hand back · lease gone: drop everything
//! ```
//!
//! Up to "spooled" a restarted builder reports `builder_lost`; from there on it goes on where it was.

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

use millrace_chassis::{BackoffExt, crash_point};
use millrace_wire::{DeclineReason, DeclineRequest};

use crate::attempt_registry::{Interrupt, RunningAttempt};
use crate::context::Context;
use crate::engine::room::Reservation;
use crate::frontend::call_error::CallError;
use crate::log::ship::Shipment;
use crate::spool::{AttemptFolder, Record};

/// An attempt and everything around it.
pub struct Attempt {
    /// The builder's shared parts.
    pub ctx: Arc<Context>,
    /// The attempt as the heartbeat sees it.
    pub running: Arc<RunningAttempt>,
    /// Its folder.
    pub folder: AttemptFolder,
    /// What the folder says of it.
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

    /// Removes all traces: the attempt is closed.
    async fn forget(self) {
        crash_point!("attempt.closed");
        self.ctx.registry.forget(self.running.id());
        let folder = self.folder.clone();
        if let Err(error) = self.ctx.on_disk(move || folder.remove()).await {
            tracing::error!(attempt.id = %self.running.id(), "cannot remove a closed attempt from the spool: {error}");
        }
        crash_point!("attempt.forgotten");
    }

    /// Gives the attempt back, uncounted. When the frontend does not answer, the next start reports it lost.
    async fn hand_back(self) {
        crash_point!("handback.begun");
        if self.decline().await {
            crash_point!("handback.told");
            tracing::info!(attempt.id = %self.running.id(), "handed back");
            self.forget().await;
        } else {
            tracing::warn!(attempt.id = %self.running.id(), "not handed back, the frontend is away; the next start reports it");
        }
    }

    /// Gives the lease back; false when the frontend is away.
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

/// Declines, with patience until a stopping builder leaves, and for at most some seconds otherwise.
pub async fn decline_until(ctx: &Context, decline: &DeclineRequest) -> bool {
    let mut backoff = millrace_chassis::Backoff::new(
        std::time::Duration::from_millis(100),
        std::time::Duration::from_secs(1),
    );
    for _ in 0..10 {
        let call = ctx.frontend.decline(decline);
        match ctx.leaving.run_until_cancelled(call).await {
            None => return false,
            Some(Ok(()) | Err(CallError::LeaseGone)) => return true,
            Some(Err(CallError::Away(reason) | CallError::StoreFull(reason))) => {
                tracing::debug!(attempt.id = %decline.attempt_id, "cannot decline yet: {reason}");
            }
            Some(Err(error)) => {
                tracing::warn!(attempt.id = %decline.attempt_id, "cannot decline: {error}");
                return true;
            }
        }
        if !backoff.pause(&ctx.leaving).await {
            return false;
        }
    }
    false
}

/// Runs a claimed attempt to its end. The room is given back as soon as the results are spooled.
pub async fn run(mut attempt: Attempt, reservation: Reservation) {
    let id = attempt.running.id();
    let job = &attempt.record.job;
    tracing::info!(attempt.id = %id, task.id = %job.task_id, build.id = %job.build_id, chroot = %job.chroot.name, "claimed");
    let built = build_packages::build_packages(&mut attempt).await;
    drop(reservation);
    match built {
        Ok(finished) => finish::finish(attempt, finished).await,
        Err(Interrupt::Stopping) => attempt.hand_back().await,
        Err(Interrupt::Revoked | Interrupt::Cancelled) => {
            tracing::info!(attempt.id = %id, "the lease is gone, dropping the attempt");
            attempt.forget().await;
        }
    }
}
