//! Removes containers that nobody owns any more: at the start this builder's own of an earlier process, then and
//! every ten minutes all that have expired on this engine, whoever made them.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use millrace_sandbox::SweepFilter;

use crate::context::Context;

const PERIOD: Duration = Duration::from_mins(10);

/// Removes what an earlier process of this builder left. Before it no attempt is taken up again.
pub async fn sweep_own(ctx: &Context) {
    sweep(ctx, SweepFilter::OwnedBy(ctx.builder)).await;
}

/// Removes expired containers until the stop.
pub async fn run(ctx: Arc<Context>) -> anyhow::Result<()> {
    loop {
        sweep(&ctx, SweepFilter::Expired(Utc::now())).await;
        if !ctx.shutdown.sleep(PERIOD).await {
            return Ok(());
        }
    }
}

async fn sweep(ctx: &Context, filter: SweepFilter) {
    match ctx.runtime.sweep(filter).await {
        Ok(swept) => {
            for container in swept {
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
