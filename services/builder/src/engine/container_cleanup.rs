//! Removes containers that nobody owns any more: at the start this builder's own of an earlier process, then and
//! every ten minutes all that have expired on this engine, whoever made them.

use std::time::Duration;

use chrono::Utc;
use millrace_chassis::Shutdown;
use millrace_domain::BuilderId;
use millrace_sandbox::{Runtime, SweepFilter};

const PERIOD: Duration = Duration::from_mins(10);

/// Removes what an earlier process of this builder left. Before it no attempt is taken up again.
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
                    "removed a container that was left over"
                );
            }
        }
        Err(error) => tracing::error!("cannot sweep left-over containers: {error}"),
    }
}
