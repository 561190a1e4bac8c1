//! Publishes hints to builders, fire and forget: HTTP handlers only put them into the queue and never publish. A hint
//! that is lost costs time alone, since the answer to the builder's next heartbeat says the same.

use millrace_bus::{Bus, Route};
use millrace_domain::BuilderId;
use millrace_wire::{ControlV1, encode};
use uuid::Uuid;

use crate::state::AppState;
use crate::state::hint_queue::HintQueue;

/// Publishes hints in the order of the queue until the stop.
pub async fn run(state: AppState, mut queue: HintQueue) -> anyhow::Result<()> {
    let stop = state.shutdown.soft().clone();
    while let Some(Some((builder, hint))) = stop.run_until_cancelled(queue.next()).await {
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
        Err(error) => tracing::error!(builder.id = %builder, "cannot encode a hint: {error}"),
    }
}
