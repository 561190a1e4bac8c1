//! Verifies a success that a 2012 poller reported: fetches `{results}/{chroot}/{package}/success` (or what
//! `MILLRACE_LEGACY_RESULTS_CHECK` says) for each package before the task counts as succeeded, because those pollers
//! report success for packages that failed as well. A lost wake costs a second: the sweeper wakes this again.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use millrace_chassis::{FetchError, FetchLimits, Fetcher, crash_point};
use millrace_domain::{Outcome, OutcomeKind};
use millrace_store::{StoreError, UnverifiedSuccess};

use crate::state::AppState;

/// Attempts claimed from the store in one query.
const BATCH: u32 = 20;
/// Attempts verified at the same time.
const CONCURRENCY: usize = 4;
/// Seconds until a server that did not answer is asked again.
const RETRY_SECONDS: u32 = 15;
/// Seconds since the report after which a server that does not answer counts as having no results.
const GIVE_UP_SECONDS: u32 = 600;
const LIMITS: FetchLimits = FetchLimits {
    max_bytes: 1 << 20,
    connect: Duration::from_secs(5),
    idle: Duration::from_secs(10),
    total: Duration::from_secs(20),
};

#[derive(Debug)]
struct ResultChecker {
    fetcher: Fetcher,
    /// Address of a package's results, with `{results}`, `{chroot}` and `{package}` to be filled in.
    template: String,
}

/// What a server said of one address.
enum Found {
    Present,
    Absent(String),
    NoAnswer(String),
}

/// Verifies successes each time it is woken, until the stop; does nothing where the check is off.
pub async fn run(state: AppState) -> anyhow::Result<()> {
    let Some(template) = state.settings.results_check.clone() else {
        state.shutdown.stopping().await;
        return Ok(());
    };
    let checker = ResultChecker {
        fetcher: Fetcher::new(state.settings.guard.clone(), LIMITS)?,
        template,
    };
    while !state.shutdown.is_stopping() {
        tokio::select! {
            () = state.result_checker_wake.notified() => {}
            () = state.shutdown.stopping() => return Ok(()),
        }
        if let Err(error) = checker.tick(&state).await {
            tracing::warn!("successes of pollers are verified later: {error}");
        }
    }
    Ok(())
}

impl ResultChecker {
    /// Verifies all successes that are due.
    async fn tick(&self, state: &AppState) -> Result<(), StoreError> {
        loop {
            let due = state.store.take_unverified(BATCH, RETRY_SECONDS).await?;
            if due.is_empty() {
                return Ok(());
            }
            let check = |success: UnverifiedSuccess| async move {
                let outcome = self.check(&success).await;
                (success, outcome)
            };
            let mut checked = stream::iter(due).map(check).buffer_unordered(CONCURRENCY);
            while let Some((success, outcome)) = checked.next().await {
                if let Some(outcome) = outcome {
                    store_outcome(state, &success, &outcome).await?;
                }
            }
        }
    }

    /// The outcome; none while the server does not answer and is to be asked again.
    async fn check(&self, success: &UnverifiedSuccess) -> Option<Outcome> {
        let failed = |reason: String| {
            let message = format!("the poller reported success, but {reason}");
            Some(Outcome::new(OutcomeKind::BuildFailed, message))
        };
        let Some(results) = &success.results else {
            return failed("named no address of results".to_owned());
        };
        for source in &success.sources {
            let package = source.as_str().trim_end_matches(".src.rpm");
            let url = self
                .template
                .replace("{results}", results.as_str().trim_end_matches('/'))
                .replace("{chroot}", success.chroot.as_str())
                .replace("{package}", package);
            match self.find(&url).await {
                Found::Present => {}
                Found::Absent(reason) => return failed(format!("{url} is not there: {reason}")),
                Found::NoAnswer(_) if success.age_seconds < GIVE_UP_SECONDS => return None,
                Found::NoAnswer(reason) => {
                    return failed(format!("{url} could not be looked for: {reason}"));
                }
            }
        }
        let message = format!("built by a poller; its results are at {results}");
        Some(Outcome::new(OutcomeKind::Succeeded, message))
    }

    async fn find(&self, url: &str) -> Found {
        match self.fetcher.fetch(url, &mut tokio::io::sink()).await {
            Ok(_) | Err(FetchError::TooLarge { .. }) => Found::Present,
            Err(error @ FetchError::Status { status, .. }) if status >= 500 || status == 429 => {
                Found::NoAnswer(error.to_string())
            }
            Err(
                error @ (FetchError::Truncated { .. }
                | FetchError::Unreachable { .. }
                | FetchError::TimedOut { .. }
                | FetchError::Write(_)
                | FetchError::Client(_)),
            ) => Found::NoAnswer(error.to_string()),
            Err(
                error @ (FetchError::BadUrl(_)
                | FetchError::SchemeRefused(_)
                | FetchError::AddressRefused { .. }
                | FetchError::TooManyRedirects { .. }
                | FetchError::Certificate { .. }
                | FetchError::Status { .. }),
            ) => Found::Absent(error.to_string()),
        }
    }
}

async fn store_outcome(
    state: &AppState,
    success: &UnverifiedSuccess,
    outcome: &Outcome,
) -> Result<(), StoreError> {
    crash_point("verify.unsettled");
    if state
        .store
        .finish_verified(success.attempt_id, outcome)
        .await?
    {
        crash_point("verify.settled");
        tracing::info!(
            task.id = %success.task_id, attempt.id = %success.attempt_id, outcome = %outcome.kind,
            "success of a poller verified"
        );
    }
    Ok(())
}
