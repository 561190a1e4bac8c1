//! What time decides: leases that ran out, offers that nobody took, cancelled work of silent builders, rooms kept for
//! large tasks. One step a second;
//! several frontends take turns inside the store, and the database's clock decides.

use std::time::Duration;

use metrics::counter;
use millrace_chassis::{Backoff, BackoffExt, crash_point};
use millrace_store::{ReserveConfig, StoreError, SweepConfig, Swept};

use crate::state::AppState;

/// How often is swept.
const LOOK: Duration = Duration::from_secs(1);
/// The longest pause after sweeps that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Sweeps until the stop.
pub async fn run(state: AppState) -> anyhow::Result<()> {
    if !state.wait_ready().await {
        return Ok(());
    }
    let mut backoff = Backoff::new(LOOK, LONGEST_PAUSE);
    loop {
        let swept = tick(&state).await;
        match &swept {
            Ok(_) => backoff.reset(),
            Err(error) if error.is_unavailable() => {
                tracing::warn!("the sweeper waits for the database: {error}");
            }
            Err(error) => tracing::error!("the sweeper failed, it goes on in a moment: {error}"),
        }
        let goes_on = match swept {
            Ok(_) => state.shutdown.sleep(LOOK).await,
            Err(_) => backoff.pause(state.shutdown.soft()).await,
        };
        if !goes_on {
            return Ok(());
        }
    }
}

/// One sweep of the truth.
pub async fn tick(state: &AppState) -> Result<Swept, StoreError> {
    let leases = &state.settings.config.leases;
    let config = SweepConfig {
        lease_seconds: leases.lease_seconds,
        offer_seconds: leases.offer_seconds,
        silent_seconds: leases.silent_seconds,
    };
    let swept = state.store.sweep(&config).await;
    let is_away = matches!(&swept, Err(error) if error.is_unavailable());
    state.database_away.note(!is_away);
    let swept = swept?;
    if swept.extended > 0 {
        tracing::warn!(
            leases = swept.extended,
            "something of ours was away, leases were extended"
        );
    }
    for (task, attempt) in &swept.lost {
        crash_point!("sweep.lost");
        tracing::warn!(task.id = %task, attempt.id = %attempt, "attempt lost: its lease ran out");
        state.end_log(*attempt).await;
    }
    for (task, attempt) in &swept.cancelled {
        crash_point!("sweep.cancelled");
        tracing::warn!(task.id = %task, attempt.id = %attempt, "cancelled attempt taken back: its builder is silent");
        state.end_log(*attempt).await;
    }
    if swept.offers_expired > 0 {
        crash_point!("sweep.unclaimed");
        tracing::warn!(offers = swept.offers_expired, "offers expired unclaimed");
    }
    counter!("millrace_attempts_lost_total").increment(swept.lost.len() as u64);
    if !swept.lost.is_empty() || !swept.cancelled.is_empty() || swept.offers_expired > 0 {
        state.relay_wake.notify_one();
    }
    sweep_pollers(state).await?;
    reserve(state).await?;
    if state.store.release_held().await? > 0 {
        state.relay_wake.notify_one();
    }
    Ok(swept)
}

/// Takes back what pollers of 2012 do not renew, and has their successes looked into.
async fn sweep_pollers(state: &AppState) -> Result<(), StoreError> {
    let swept = state.store.sweep_pollers().await?;
    for (build, poller) in &swept.returned {
        tracing::warn!(build.id = %build, poller, "build taken from its poller: it goes to the queue");
    }
    counter!("millrace_poller_returned_total").increment(swept.returned.len() as u64);
    if !swept.returned.is_empty() || swept.rerouted > 0 {
        state.relay_wake.notify_one();
    }
    if swept.to_believe {
        state.believer_wake.notify_one();
    }
    Ok(())
}

/// Keeps builders free for large tasks that have waited long; they hear of it in the answer to their next heartbeat.
async fn reserve(state: &AppState) -> Result<(), StoreError> {
    let fairness = &state.settings.config.fairness;
    let config = ReserveConfig {
        after_seconds: fairness.reserve_after_seconds,
        owner_running: fairness.owner_running,
    };
    let reserved = state.store.reserve(&config).await?;
    for kept in &reserved.made {
        tracing::info!(builder.id = %kept.builder_id, task.id = %kept.task_id, "builder kept free for a large task");
    }
    for builder in &reserved.ended {
        tracing::info!(builder.id = %builder, "builder takes all tasks again");
    }
    if !reserved.ended.is_empty() {
        state.relay_wake.notify_one();
    }
    counter!("millrace_reservations_total").increment(reserved.made.len() as u64);
    Ok(())
}
