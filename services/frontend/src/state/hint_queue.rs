//! The queue of hints to builders, between those who have one (HTTP handlers, the listener) and `background/hints.rs`,
//! which publishes them. Adding never waits: a hint that is dropped only costs time, since the answer to the builder's
//! next heartbeat says the same.

use millrace_domain::{AttemptId, BuilderId};
use millrace_wire::ControlV1;
use tokio::sync::mpsc;

/// Hints in the queue at most; further ones are dropped.
const CAPACITY: usize = 256;

/// The sending end, for handlers and the report listener.
#[derive(Clone)]
pub struct Hints(mpsc::Sender<(BuilderId, ControlV1)>);

/// The receiving end of [`Hints`]; there is one, which the loop in `background/hints.rs` owns.
pub struct HintQueue(mpsc::Receiver<(BuilderId, ControlV1)>);

impl Hints {
    /// Both ends of a new queue.
    pub fn channel() -> (Self, HintQueue) {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        (Self(sender), HintQueue(receiver))
    }

    /// Tells a builder that an attempt of its was cancelled.
    pub fn cancel(&self, builder: BuilderId, attempt_id: AttemptId) {
        self.send(builder, ControlV1::Cancel { attempt_id });
    }

    /// Asks a builder for a heartbeat now, because the answer has news for it.
    pub fn heartbeat(&self, builder: BuilderId) {
        self.send(builder, ControlV1::Heartbeat);
    }

    fn send(&self, builder: BuilderId, hint: ControlV1) {
        if self.0.try_send((builder, hint)).is_err() {
            tracing::debug!(builder.id = %builder, "hint dropped");
        }
    }
}

impl HintQueue {
    /// The next hint and the builder that it is for; none when all senders are gone.
    pub async fn next(&mut self) -> Option<(BuilderId, ControlV1)> {
        self.0.recv().await
    }
}
