//! Whether a poller's success is one: pollers of 2012 reported success for packages that had failed. So the results are
//! looked for, where the poller says that they are, before a task counts as succeeded.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use millrace_chassis::{FetchError, FetchLimits, Fetcher, crash_point};
use millrace_domain::{Outcome, OutcomeKind};
use millrace_store::{StoreError, UnverifiedSuccess};

use crate::state::AppState;

/// Attempts looked into at a time, and files of them at once.
const BATCH: u32 = 20;
const AT_ONCE: usize = 4;
/// A server that does not answer is asked again after so many seconds, for so long.
const AGAIN_SECONDS: u32 = 15;
const PATIENCE_SECONDS: u32 = 600;
const LIMITS: FetchLimits = FetchLimits {
    max_bytes: 1 << 20,
    connect: Duration::from_secs(5),
    idle: Duration::from_secs(10),
    total: Duration::from_secs(20),
};

/// Looks for results.
#[derive(Debug)]
struct ResultChecker {
    fetcher: Fetcher,
    template: String,
}

/// What a look found.
enum Seen {
    There,
    Missing(String),
    NoAnswer(String),
}

/// Looks into successes, each time it is woken, until the stop.
pub async fn run(state: AppState) -> anyhow::Result<()> {
    let Some(template) = state.settings.results_check.clone() else {
        state.shutdown.stopping().await;
        return Ok(());
    };
    let believer = ResultChecker {
        fetcher: Fetcher::new(state.settings.guard.clone(), LIMITS)?,
        template,
    };
    while !state.shutdown.is_stopping() {
        tokio::select! {
            () = state.result_checker_wake.notified() => {}
            () = state.shutdown.stopping() => return Ok(()),
        }
        match believer.look(&state).await {
            Ok(()) => {}
            // The sweeper wakes this again.
            Err(error) => tracing::warn!("results of pollers are looked for later: {error}"),
        }
    }
    Ok(())
}

impl ResultChecker {
    async fn look(&self, state: &AppState) -> Result<(), StoreError> {
        loop {
            let taken = state.store.take_unverified(BATCH, AGAIN_SECONDS).await?;
            if taken.is_empty() {
                return Ok(());
            }
            let judge = |told: UnverifiedSuccess| async move {
                let outcome = self.judge(&told).await;
                (told, outcome)
            };
            let mut judged = stream::iter(taken).map(judge).buffer_unordered(AT_ONCE);
            while let Some((told, outcome)) = judged.next().await {
                let Some(outcome) = outcome else { continue };
                crash_point!("verify.unsettled");
                let settled = state.store.settle_believed(told.attempt_id, &outcome);
                if settled.await? {
                    crash_point!("verify.settled");
                    tracing::info!(
                        task.id = %told.task_id, attempt.id = %told.attempt_id, outcome = %outcome.kind,
                        "poller's success looked into"
                    );
                }
            }
        }
    }

    /// The outcome, or none while the server does not answer and there is patience left.
    async fn judge(&self, told: &UnverifiedSuccess) -> Option<Outcome> {
        let failed = |reason: String| {
            let message = format!("the poller reported success, but {reason}");
            Some(Outcome::new(OutcomeKind::BuildFailed, message))
        };
        let Some(results) = &told.results else {
            return failed("named no address of results".to_owned());
        };
        for source in &told.sources {
            let package = source.as_str().trim_end_matches(".src.rpm");
            let url = self
                .template
                .replace("{results}", results.as_str().trim_end_matches('/'))
                .replace("{chroot}", told.chroot.as_str())
                .replace("{package}", package);
            match self.see(&url).await {
                Seen::There => {}
                Seen::Missing(reason) => return failed(format!("{url} is not there: {reason}")),
                Seen::NoAnswer(_) if told.age_seconds < PATIENCE_SECONDS => return None,
                Seen::NoAnswer(reason) => {
                    return failed(format!("{url} could not be looked for: {reason}"));
                }
            }
        }
        let message = format!("built by a poller; its results are at {results}");
        Some(Outcome::new(OutcomeKind::Succeeded, message))
    }

    async fn see(&self, url: &str) -> Seen {
        match self.fetcher.fetch(url, &mut tokio::io::sink()).await {
            Ok(_) | Err(FetchError::TooLarge { .. }) => Seen::There,
            Err(error @ FetchError::Status { status, .. }) if status >= 500 || status == 429 => {
                Seen::NoAnswer(error.to_string())
            }
            Err(
                error @ (FetchError::Truncated { .. }
                | FetchError::Unreachable { .. }
                | FetchError::TimedOut { .. }
                | FetchError::Write(_)
                | FetchError::Client(_)),
            ) => Seen::NoAnswer(error.to_string()),
            Err(error) => Seen::Missing(error.to_string()),
        }
    }
}
