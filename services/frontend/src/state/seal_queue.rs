//! The queue of logs to be sealed, between those who end attempts and `background/log_sealer.rs`.

use millrace_domain::AttemptId;
use tokio::sync::mpsc;

/// Logs in the queue at most; who adds one more waits until the sealer has taken one.
const CAPACITY: usize = 1024;

/// The sending end, for all who end attempts.
#[derive(Clone)]
pub struct Sealer(mpsc::Sender<AttemptId>);

/// The receiving end of [`Sealer`]; there is one, which the loop in `background/log_sealer.rs` owns.
pub struct SealQueue(mpsc::Receiver<AttemptId>);

impl Sealer {
    /// Both ends of a new queue.
    pub fn channel() -> (Self, SealQueue) {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        (Self(sender), SealQueue(receiver))
    }

    /// Adds the log of an attempt that has ended.
    pub async fn seal(&self, attempt: AttemptId) {
        if self.0.send(attempt).await.is_err() {
            tracing::debug!(attempt.id = %attempt, "log not sealed, the frontend is stopping");
        }
    }
}

impl SealQueue {
    /// The next attempt whose log is to be sealed; none when all senders are gone.
    pub async fn next(&mut self) -> Option<AttemptId> {
        self.0.recv().await
    }
}
