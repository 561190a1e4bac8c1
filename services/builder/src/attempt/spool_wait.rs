//! How long work that is done waits for space on the spool's disk: in pauses that grow, up to a setting.

use std::fmt::Display;
use std::time::Duration;

use millrace_chassis::Backoff;
use millrace_domain::Outcome;
use millrace_wire::WaitsFor;
use tokio::time::Instant;

use crate::attempt::Attempt;
use crate::attempt_registry::{Interrupt, Waiting};
use crate::context::Context;
use crate::spool::disk_space::WaitsForSpace;

/// Pauses between two tries, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// One wait for space.
pub struct Patience {
    whole: Duration,
    give_up: Instant,
    backoff: Backoff,
    waits: Option<(WaitsForSpace, Waiting)>,
}

impl Patience {
    /// The patience that the settings give, from now on.
    pub fn new(ctx: &Context) -> Self {
        Self {
            whole: ctx.spool_patience,
            give_up: Instant::now() + ctx.spool_patience,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            waits: None,
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
        if self.waits.is_none() {
            self.waits = Some((
                attempt.ctx.disk.wait(reason),
                attempt.live.waits_for(WaitsFor::SpoolSpace),
            ));
            attempt.ctx.nudge.notify_one();
        }
        let next = (Instant::now() + self.backoff.next_delay()).min(self.give_up);
        tokio::select! {
            biased;
            interrupt = attempt.live.interrupted(&attempt.ctx.shutdown) => Err(interrupt),
            () = tokio::time::sleep_until(next) => Ok(true),
        }
    }

    /// The outcome, told with how long was waited.
    pub fn exhausted(&self, outcome: Outcome) -> Outcome {
        Outcome {
            message: format!(
                "{}; waited {} s for space (MILLRACE_SPOOL_WAIT_SECONDS)",
                outcome.message,
                self.whole.as_secs()
            ),
            ..outcome
        }
    }
}
