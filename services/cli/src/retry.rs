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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::UsageError;
    use crate::testing::{impatient, quick};
    use millrace_chassis::Problem;

    fn refusal(status: u16) -> anyhow::Error {
        ApiError::Problem(Box::new(Problem::new(status, "x", "the server's words"))).into()
    }

    fn unreachable() -> anyhow::Error {
        let server = "h:1".to_owned();
        ApiError::TimedOut { server }.into()
    }

    /// Calls by `timing` with an error from `errors` each time, then with success; returns the number of calls too.
    async fn writes(
        timing: &Timing,
        errors: Vec<anyhow::Error>,
    ) -> (anyhow::Result<&'static str>, usize) {
        let mut errors = errors.into_iter();
        let mut calls = 0;
        let result = repeat_write(timing, async || {
            calls += 1;
            errors.next().map_or(Ok("written"), Err)
        })
        .await;
        (result, calls)
    }

    #[test]
    fn only_a_server_that_is_away_overloaded_or_failing_is_asked_again() {
        for transient in [
            unreachable(),
            refusal(500),
            refusal(503),
            refusal(429),
            refusal(408),
        ] {
            assert!(is_transient(&transient), "{transient}");
        }
        let usage = UsageError("x".to_owned()).into();
        for lasting in [refusal(400), refusal(404), refusal(409), usage] {
            assert!(!is_transient(&lasting), "{lasting}");
        }
    }

    #[test]
    fn an_error_with_context_is_still_known_as_transient() {
        assert!(is_transient(&unreachable().context("while uploading")));
    }

    #[tokio::test]
    async fn a_write_is_repeated_until_it_succeeds() {
        let (result, calls) = writes(&quick(), vec![unreachable(), refusal(502)]).await;
        assert_eq!((result.unwrap(), calls), ("written", 3));
    }

    #[tokio::test]
    async fn a_write_ends_with_the_error_of_its_fourth_try() {
        let mut errors: Vec<_> = (0..3).map(|_| unreachable()).collect();
        errors.push(refusal(503));
        let (result, calls) = writes(&quick(), errors).await;
        let error = result.unwrap_err().to_string();
        assert_eq!((error.as_str(), calls), ("the server's words", 4));
    }

    #[tokio::test]
    async fn a_refused_write_is_not_repeated() {
        let (result, calls) = writes(&quick(), vec![unreachable(), refusal(409)]).await;
        assert_eq!(calls, 2);
        assert!(result.is_err());
    }

    fn outage(timing: &Timing) -> Outage {
        Outage::new(timing.outage_limit, timing.read_pauses)
    }

    #[tokio::test]
    async fn an_outage_within_the_limit_is_borne() {
        let mut outage = outage(&quick());
        for _ in 0..3 {
            outage.bear(unreachable(), "x").await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_refusal_during_an_outage_is_returned_as_it_is() {
        let error = outage(&quick()).bear(refusal(404), "x").await.unwrap_err();
        assert_eq!(
            error.downcast_ref::<ApiError>().unwrap().status(),
            Some(404)
        );
    }

    #[tokio::test]
    async fn an_outage_over_the_limit_is_an_error_that_says_what_remains() {
        let mut outage = outage(&impatient());
        let error = outage.bear(unreachable(), "the build goes on").await;
        let error = error.unwrap_err();
        assert!(error.downcast_ref::<ServiceError>().is_some(), "{error}");
        assert!(
            error.to_string().ends_with(", the build goes on"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn an_answer_begins_the_limit_anew() {
        let mut outage = outage(&Timing::default());
        let before = outage.last_answer;
        outage.note_answer(false);
        assert!(outage.last_answer > before);
    }

    #[tokio::test]
    async fn pauses_grow_until_there_is_news() {
        let pauses = Pauses {
            first: Duration::from_secs(1),
            longest: Duration::from_mins(1),
        };
        let mut outage = Outage::new(Duration::ZERO, pauses);
        for _ in 0..4 {
            outage.backoff.next_delay();
        }
        outage.note_answer(false);
        assert!(outage.backoff.next_delay() >= Duration::from_secs(8));
        outage.note_answer(true);
        assert!(outage.backoff.next_delay() <= Duration::from_secs(1));
    }

    #[test]
    fn what_is_said_when_waiting_is_given_up() {
        let limit = Timing::default().outage_limit;
        assert_eq!(
            gave_up("cannot reach h:1", limit, "build 7 goes on without you").to_string(),
            "cannot reach h:1; gave up after 15 minutes, build 7 goes on without you"
        );
    }
}
