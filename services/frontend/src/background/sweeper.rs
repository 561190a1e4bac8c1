//! Runs every second: ends expired leases and unclaimed offers, takes cancelled work from silent builders, ends what
//! pollers no longer renew, and reserves builders for large tasks. Several frontends may run it; the store lets one
//! sweep at a time, and the database's clock decides what has expired.

use std::time::Duration;

use metrics::counter;
use millrace_chassis::{Backoff, BackoffExt, crash_point};
use millrace_store::{ReserveConfig, StoreError, SweepConfig, Swept};

use crate::state::AppState;

/// The time between two sweeps.
const TICK: Duration = Duration::from_secs(1);
/// The longest pause after sweeps that failed, such as while the database is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Sweeps until the stop.
pub async fn run(state: AppState) -> anyhow::Result<()> {
    if !state.wait_ready().await {
        return Ok(());
    }
    let mut backoff = Backoff::new(TICK, LONGEST_PAUSE);
    loop {
        let swept = tick(&state).await;
        match &swept {
            Ok(_) => backoff.reset(),
            Err(error) if error.is_unavailable() => {
                tracing::warn!("the sweeper waits for the database: {error}");
            }
            Err(error) => tracing::error!("the sweep failed, it is repeated in a moment: {error}"),
        }
        let goes_on = match swept {
            Ok(_) => state.shutdown.sleep(TICK).await,
            Err(_) => backoff.pause(state.shutdown.soft()).await,
        };
        if !goes_on {
            return Ok(());
        }
    }
}

/// One sweep. The relay is woken where it gave tasks back to the queue or freed room.
pub async fn tick(state: &AppState) -> Result<Swept, StoreError> {
    let leases = &state.settings.config.leases;
    let config = SweepConfig {
        lease_seconds: leases.lease_seconds,
        offer_seconds: leases.offer_seconds,
        silent_seconds: leases.silent_seconds,
    };
    let swept = state.store.sweep(&config).await;
    let is_up = !swept.as_ref().is_err_and(StoreError::is_unavailable);
    state.database_outage.note(is_up);
    let swept = swept?;
    if swept.extended > 0 {
        tracing::warn!(
            leases = swept.extended,
            "sweeps had stopped for a while (database or frontends away), so leases were extended"
        );
    }
    for (task, attempt) in &swept.lost {
        crash_point("sweep.lost");
        tracing::warn!(task.id = %task, attempt.id = %attempt, "attempt lost: its lease expired");
        state.end_log(*attempt).await;
    }
    for (task, attempt) in &swept.cancelled {
        crash_point("sweep.cancelled");
        tracing::warn!(task.id = %task, attempt.id = %attempt, "cancelled attempt revoked: its builder sends no heartbeats");
        state.end_log(*attempt).await;
    }
    if swept.offers_expired > 0 {
        crash_point("sweep.unclaimed");
        tracing::warn!(offers = swept.offers_expired, "offers expired unclaimed");
    }
    counter!("millrace_attempts_lost_total").increment(swept.lost.len() as u64);
    if !swept.lost.is_empty() || !swept.cancelled.is_empty() || swept.offers_expired > 0 {
        state.relay_wake.notify_one();
    }
    sweep_pollers(state).await?;
    reserve(state).await?;
    if state.store.requeue_with_image().await? > 0 {
        state.relay_wake.notify_one();
    }
    Ok(swept)
}

/// Gives builds that legacy pollers no longer renew to the queue, and wakes the result checker for their successes.
async fn sweep_pollers(state: &AppState) -> Result<(), StoreError> {
    let swept = state.store.sweep_pollers().await?;
    for (build, poller) in &swept.returned {
        tracing::warn!(build.id = %build, poller, "build taken from its poller, builders will build it");
    }
    counter!("millrace_poller_returned_total").increment(swept.returned.len() as u64);
    if !swept.returned.is_empty() || swept.rerouted > 0 {
        state.relay_wake.notify_one();
    }
    if swept.to_verify {
        state.result_checker_wake.notify_one();
    }
    Ok(())
}

/// Reserves builders for large tasks that have waited long. A builder is told in the answer to its next heartbeat.
async fn reserve(state: &AppState) -> Result<(), StoreError> {
    let fairness = &state.settings.config.fairness;
    let config = ReserveConfig {
        after_seconds: fairness.reserve_after_seconds,
        owner_running: fairness.owner_running,
    };
    let reserved = state.store.reserve(&config).await?;
    for reservation in &reserved.made {
        tracing::info!(builder.id = %reservation.builder_id, task.id = %reservation.task_id, "builder reserved for a large task");
    }
    for builder in &reserved.ended {
        tracing::info!(builder.id = %builder, "reservation of the builder ended");
    }
    if !reserved.ended.is_empty() {
        state.relay_wake.notify_one();
    }
    counter!("millrace_reservations_total").increment(reserved.made.len() as u64);
    Ok(())
}
