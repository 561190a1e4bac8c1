//! Removes left-over containers. At the start: those of an earlier process of this builder. Then, and every ten minutes:
//! all on this engine that have expired, whoever made them.

use std::time::Duration;

use chrono::Utc;
use millrace_chassis::Shutdown;
use millrace_domain::BuilderId;
use millrace_sandbox::{Runtime, SweepFilter};

/// Time between two cleanups of expired containers.
const PERIOD: Duration = Duration::from_mins(10);

/// Removes the containers of an earlier process of this builder. This comes before its attempts go on,
/// since they have no sandbox then.
pub async fn remove_own(runtime: &Runtime, builder: BuilderId) {
    remove(runtime, SweepFilter::OwnedBy(builder)).await;
}

/// Removes expired containers until the stop.
pub async fn run(runtime: Runtime, shutdown: Shutdown) -> anyhow::Result<()> {
    loop {
        remove(&runtime, SweepFilter::Expired(Utc::now())).await;
        if !shutdown.sleep(PERIOD).await {
            return Ok(());
        }
    }
}

async fn remove(runtime: &Runtime, filter: SweepFilter) {
    match runtime.sweep(filter).await {
        Ok(removed) => {
            for container in removed {
                tracing::warn!(
                    container.id = container.container_id,
                    attempt.id = container.attempt,
                    "removed a left-over container"
                );
            }
        }
        Err(error) => tracing::error!("cannot remove left-over containers: {error}"),
    }
}
