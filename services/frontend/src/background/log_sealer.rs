//! Seals the logs of ended attempts: joins the pieces of a log into one file that is synced to disk. It does so beside
//! those who end attempts, so that no report waits for a disk. A log that was not sealed, because the frontend stopped
//! before, stays readable in its pieces.

use millrace_chassis::crash_point;
use millrace_domain::AttemptId;

use crate::state::AppState;
use crate::state::seal_queue::SealQueue;

/// Seals logs in the order of the queue until the stop.
pub async fn run(state: AppState, mut queue: SealQueue) -> anyhow::Result<()> {
    let stop = state.shutdown.soft().clone();
    while let Some(Some(attempt)) = stop.run_until_cancelled(queue.next()).await {
        seal(&state, attempt).await;
    }
    Ok(())
}

#[tracing::instrument(level = "error", skip_all, fields(attempt.id = %attempt))]
async fn seal(state: &AppState, attempt: AttemptId) {
    crash_point("log.unsealed");
    if let Err(error) = state.results.seal_log(attempt).await {
        tracing::warn!("cannot seal the log, it stays in pieces: {error}");
    }
    crash_point("log.sealed");
    state.log_followers.notify(attempt);
}
