//! Seals the logs of ended attempts, away from those who report them: a sealed log is one synced file. A log that
//! is never sealed, because the process ended before, stays readable in its pieces.

use millrace_chassis::crash_point;
use millrace_domain::AttemptId;
use tokio::sync::mpsc;

use crate::state::AppState;

/// Logs that may wait; whoever brings one more waits with it.
const WAITING: usize = 1024;

/// Takes attempts whose logs have ended.
#[derive(Clone)]
pub struct Sealer(mpsc::Sender<AttemptId>);

/// The other end of [`Sealer`].
pub struct SealQueue(mpsc::Receiver<AttemptId>);

impl Sealer {
    /// A sender and the queue that [`run`] empties.
    pub fn channel() -> (Self, SealQueue) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), SealQueue(receiver))
    }

    /// Has a log sealed.
    pub async fn seal(&self, attempt: AttemptId) {
        if self.0.send(attempt).await.is_err() {
            tracing::debug!(attempt.id = %attempt, "stopping, the log stays unsealed");
        }
    }
}

/// Seals until the stop.
pub async fn run(state: AppState, mut queue: SealQueue) -> anyhow::Result<()> {
    let stop = state.shutdown.soft().clone();
    while let Some(Some(attempt)) = stop.run_until_cancelled(queue.0.recv()).await {
        crash_point!("log.unsealed");
        if let Err(error) = state.results.seal_log(attempt).await {
            tracing::warn!(attempt.id = %attempt, "cannot seal the log: {error}");
        }
        crash_point!("log.sealed");
        state.logs.tell(attempt);
    }
    Ok(())
}
