//! The start: waits for the database, brings the schema up to date (one frontend at a time, by the store's advisory
//! lock), stores the defaults, and says that the rest may begin.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use millrace_chassis::{Backoff, BackoffExt};
use millrace_domain::Name;
use millrace_store::{ChrootDef, StoreError};

use crate::state::{AppState, Readiness};

/// The account and project that exist from the first start.
const DEFAULT: &str = "main";

/// Makes the frontend ready, then waits for the stop.
pub async fn run(state: AppState, chroots: Vec<ChrootDef>) -> anyhow::Result<()> {
    let default: Name = DEFAULT.parse()?;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        match prepare(&state, &default, &chroots).await {
            Ok(()) => break,
            Err(error) if error.is_unavailable() => {
                tracing::warn!("waiting for the database: {error}");
                let reason = "waiting for the database".to_owned();
                state.ready.send_replace(Readiness::Starting(reason));
            }
            Err(error) => return Err(error.into()),
        }
        if !backoff.pause(state.shutdown.soft()).await {
            return Ok(());
        }
    }
    state.ready.send_replace(Readiness::Ready);
    tracing::info!(chroots = chroots.len(), "ready");
    state.shutdown.stopping().await;
    Ok(())
}

async fn prepare(
    state: &AppState,
    default: &Name,
    chroots: &[ChrootDef],
) -> Result<(), StoreError> {
    // Boxed: the compiler cannot see through these futures that they may move between threads.
    let migrating: BoxFuture<'_, _> = state.store.migrate().boxed();
    migrating.await?;
    let storing: BoxFuture<'_, _> = state
        .store
        .ensure_defaults(default, default, chroots)
        .boxed();
    storing.await?;
    Ok(())
}
