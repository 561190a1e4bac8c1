//! Finished work waits for space on the spool's disk: it tries again after pauses that grow, for
//! `MILLRACE_SPOOL_WAIT_SECONDS`.

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

/// The first pause between two tries.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// A wait for space, from the first write that failed until one succeeds or the time is used up.
pub struct SpoolWait {
    limit: Duration,
    give_up: Instant,
    backoff: Backoff,
    guards: Option<(SpaceWaitGuard, WaitGuard)>,
}

impl SpoolWait {
    /// A wait that may last as long as the settings allow, from now on.
    pub fn new(ctx: &Context) -> Self {
        Self {
            limit: ctx.spool_wait_limit,
            give_up: Instant::now() + ctx.spool_wait_limit,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            guards: None,
        }
    }

    /// Pauses before the next try, because the last one failed for this reason; false when the time is used up. From the
    /// first pause until this value is dropped the builder takes no more jobs.
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

    /// The outcome of the last try, with the time that was waited in its message.
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
