//! When a call to the server is repeated, how long is paused in between, and when to give up.

use std::time::Duration;

use millrace_chassis::{ApiError, Backoff, BackoffExt, CancellationToken};
use tokio::time::Instant;

use crate::error::ServiceError;

/// The pauses between repeated calls: the first one, and the one that they grow to.
#[derive(Debug, Clone, Copy)]
pub struct Pauses {
    pub first: Duration,
    pub longest: Duration,
}

impl Pauses {
    fn backoff(self) -> Backoff {
        Backoff::new(self.first, self.longest)
    }
}

/// How often the server is asked, and for how long it may be away.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Tries of a write, the first one included; its idempotency key makes repeats harmless.
    pub write_tries: u32,
    pub write_pauses: Pauses,
    /// Between tries to read a build during an outage.
    pub read_pauses: Pauses,
    /// Between two connections to the same log.
    pub log_pauses: Pauses,
    /// How long the server may be away before waiting and following give up.
    pub outage_limit: Duration,
    /// How often a build is read while its end is waited for.
    pub build_poll: Duration,
    /// How often a task is read while its next attempt is waited for.
    pub attempt_poll: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let short = Pauses {
            first: Duration::from_millis(300),
            longest: Duration::from_secs(5),
        };
        Self {
            write_tries: 4,
            write_pauses: short,
            read_pauses: Pauses {
                first: Duration::from_millis(500),
                longest: Duration::from_secs(10),
            },
            log_pauses: short,
            outage_limit: Duration::from_mins(15),
            build_poll: Duration::from_millis(500),
            attempt_poll: Duration::from_millis(300),
        }
    }
}

/// Whether the same call may succeed a little later: the server is unreachable, overloaded or failing.
pub fn is_transient(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<ApiError>()
        .is_some_and(ApiError::is_transient)
}

/// Calls until the answer is final, or all tries of a write are used up; the last error is then the result.
pub async fn repeat_write<T>(
    timing: &Timing,
    mut call: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut backoff = timing.write_pauses.backoff();
    for _ in 1..timing.write_tries {
        match call().await {
            Err(error) if is_transient(&error) => {
                backoff.pause(&CancellationToken::new()).await;
            }
            final_answer => return final_answer,
        }
    }
    call().await
}

/// The time since the server last answered, and the pause before it is asked again.
#[derive(Debug)]
pub struct Outage {
    limit: Duration,
    last_answer: Instant,
    backoff: Backoff,
}

impl Outage {
    /// Counts from now on.
    pub fn new(limit: Duration, pauses: Pauses) -> Self {
        Self {
            limit,
            last_answer: Instant::now(),
            backoff: pauses.backoff(),
        }
    }

    /// The server answered, so the limit counts from now on. Pauses become short again only if it had something new:
    /// a server that accepts connections and drops them is not asked more often for that.
    pub fn note_answer(&mut self, had_news: bool) {
        self.last_answer = Instant::now();
        if had_news {
            self.backoff.reset();
        }
    }

    /// Pauses after a transient error, as long as the outage may last. Any other error is returned as it is, and the one
    /// that is over the limit with `remains`, which says what becomes of the work on the server.
    pub async fn bear(&mut self, error: anyhow::Error, remains: &str) -> anyhow::Result<()> {
        if !is_transient(&error) {
            return Err(error);
        }
        if self.last_answer.elapsed() > self.limit {
            return Err(gave_up(&error.to_string(), self.limit, remains).into());
        }
        self.pause().await;
        Ok(())
    }

    /// Waits before the next call.
    pub async fn pause(&mut self) {
        self.backoff.pause(&CancellationToken::new()).await;
    }
}

fn gave_up(reason: &str, limit: Duration, remains: &str) -> ServiceError {
    let minutes = limit.as_secs() / 60;
    ServiceError(format!(
        "{reason}; gave up after {minutes} minutes, {remains}"
    ))
}
