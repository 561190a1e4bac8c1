//! Hints to builders: fire and forget. HTTP handlers hand them over here and never publish; a hint that is lost is
//! repeated by the answer to the builder's next heartbeat.

use millrace_bus::{Bus, Route};
use millrace_domain::{AttemptId, BuilderId};
use millrace_wire::{ControlV1, encode};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::state::AppState;

/// Hints that may wait; more are dropped.
const WAITING: usize = 256;

/// Takes hints; never blocks.
#[derive(Clone)]
pub struct Hints(mpsc::Sender<(BuilderId, ControlV1)>);

/// The other end of [`Hints`].
pub struct HintQueue(mpsc::Receiver<(BuilderId, ControlV1)>);

impl Hints {
    /// A sender and the queue that [`run`] empties.
    pub fn channel() -> (Self, HintQueue) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), HintQueue(receiver))
    }

    /// Tells a builder that an attempt of its was cancelled.
    pub fn cancel(&self, builder: BuilderId, attempt_id: AttemptId) {
        self.send(builder, ControlV1::Cancel { attempt_id });
    }

    /// Asks a builder for a heartbeat now, whose answer has news.
    pub fn heartbeat(&self, builder: BuilderId) {
        self.send(builder, ControlV1::Heartbeat);
    }

    fn send(&self, builder: BuilderId, hint: ControlV1) {
        if self.0.try_send((builder, hint)).is_err() {
            tracing::debug!(builder.id = %builder, "hint dropped");
        }
    }
}

/// Publishes hints until the stop.
pub async fn run(state: AppState, mut queue: HintQueue) -> anyhow::Result<()> {
    let stop = state.shutdown.soft().clone();
    while let Some(Some((builder, hint))) = stop.run_until_cancelled(queue.0.recv()).await {
        publish(&state.bus, builder, &hint).await;
    }
    Ok(())
}

async fn publish(bus: &Bus, builder: BuilderId, hint: &ControlV1) {
    let id = Uuid::now_v7();
    let body = encode(id, chrono::Utc::now(), hint).and_then(|value| serde_json::to_vec(&value));
    match body {
        Ok(body) => {
            bus.publisher()
                .hint(Route::Builder(builder), id, body)
                .await;
        }
        Err(error) => tracing::error!("cannot encode a hint: {error}"),
    }
}
