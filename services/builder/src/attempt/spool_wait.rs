//! How long work that is done waits for space on the spool's disk: in pauses that grow, up to a setting.

use std::fmt::Display;
use std::time::Duration;

use millrace_chassis::{Backoff, BackoffExt};
use millrace_domain::Outcome;
use millrace_wire::WaitsFor;
use tokio::time::Instant;

use crate::attempt::Attempt;
use crate::attempt_registry::{Interrupt, WaitGuard};
use crate::context::Context;
use crate::spool::disk_space::SpaceWaitGuard;

/// Pauses between two tries, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// One wait for space.
pub struct SpoolWait {
    limit: Duration,
    give_up: Instant,
    backoff: Backoff,
    guards: Option<(SpaceWaitGuard, WaitGuard)>,
}

impl SpoolWait {
    /// The patience that the settings give, from now on.
    pub fn new(ctx: &Context) -> Self {
        Self {
            limit: ctx.spool_wait_limit,
            give_up: Instant::now() + ctx.spool_wait_limit,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            guards: None,
        }
    }

    /// Waits before the next try, because the last one failed for this reason; false when there is none. Until this
    /// patience is dropped the builder takes no more work.
    pub async fn pause(
        &mut self,
        attempt: &Attempt,
        reason: &(dyn Display + Sync),
    ) -> Result<bool, Interrupt> {
        if Instant::now() >= self.give_up {
            return Ok(false);
        }
        if self.guards.is_none() {
            self.guards = Some((
                attempt.ctx.disk.wait_for_space(reason),
                attempt.running.waits_for(WaitsFor::SpoolSpace),
            ));
            attempt.ctx.heartbeat_wake.notify_one();
        }
        let next = (Instant::now() + self.backoff.next_delay()).min(self.give_up);
        tokio::select! {
            biased;
            interrupt = attempt.running.interrupted(&attempt.ctx.shutdown) => Err(interrupt),
            () = tokio::time::sleep_until(next) => Ok(true),
        }
    }

    /// The outcome, told with how long was waited.
    pub fn exhausted(&self, outcome: Outcome) -> Outcome {
        Outcome {
            message: format!(
                "{}; waited {} s for space (MILLRACE_SPOOL_WAIT_SECONDS)",
                outcome.message,
                self.limit.as_secs()
            ),
            ..outcome
        }
    }
}
