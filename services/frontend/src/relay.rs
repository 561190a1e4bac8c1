//! Moves work from the truth to the broker: releases waiting tasks while builders have room, and publishes the
//! outbox with confirms.
//!
//! It wakes at once after a commit of this frontend, by `NOTIFY` after one of another, and each second in any case, so
//! a lost wake costs a second. While the broker is down or blocked nothing is released. What was returned or not
//! confirmed stays in the outbox and is published again under the same id; the second copy loses the claim.

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::counter;
use millrace_bus::{JobRoute, Outgoing};
use millrace_store::{OutboxEntry, ReleaseConfig, StoreError};

use crate::job;
use crate::state::AppState;

/// How often the relay looks without being woken.
const LOOK: Duration = Duration::from_secs(1);
/// Messages published at once.
const BATCH: u32 = 200;
/// What is released and unclaimed, as a multiple of the room.
const WINDOW_FACTOR: u32 = 2;

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The broker cannot be published to: nothing was touched.
    Paused,
    /// Everything that can go is gone.
    Idle,
    /// There may be more at once.
    More,
    /// Some messages could not be published; they stay for later.
    Held,
}

/// Relays until the stop.
pub async fn run(state: AppState) -> anyhow::Result<()> {
    if !state.wait_ready().await {
        return Ok(());
    }
    let mut others = state.store.listen();
    let mut link = state.bus.publishing();
    while !state.shutdown.is_stopping() {
        match tick(&state).await {
            Ok(Step::More) => continue,
            Ok(Step::Paused | Step::Idle | Step::Held) => {}
            Err(error) if error.is_unavailable() => {
                tracing::warn!("the relay waits for the database: {error}");
            }
            Err(error) => tracing::error!("the relay failed, it goes on in a second: {error}"),
        }
        tokio::select! {
            () = state.relay_wake.notified() => {}
            () = others.next() => {}
            _ = link.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
            () = state.shutdown.stopping() => {}
        }
    }
    Ok(())
}

/// Releases what the window allows, then publishes one batch.
pub async fn tick(state: &AppState) -> Result<Step, StoreError> {
    if !state.bus.publishing().borrow().is_up() {
        return Ok(Step::Paused);
    }
    let config = ReleaseConfig {
        window_factor: WINDOW_FACTOR,
        max_batch: BATCH,
    };
    let released = state.store.release_tasks(&config, job::message).await?;
    counter!("millrace_tasks_released_total").increment(released.len() as u64);
    let Some(batch) = state.store.outbox_batch(BATCH).await? else {
        return Ok(Step::Idle);
    };
    let entries = batch.entries();
    let offered = entries.len();
    let confirmed = publish(state, entries).await;
    let count = confirmed.len();
    batch.confirm(&confirmed).await?;
    Ok(if count < offered {
        Step::Held
    } else if offered >= BATCH as usize {
        Step::More
    } else {
        Step::Idle
    })
}

/// Publishes a batch; the ids of the rows that the broker confirmed.
async fn publish(state: &AppState, entries: &[OutboxEntry]) -> Vec<i64> {
    let messages = entries.iter().map(outgoing).collect();
    let results = state.bus.publisher().publish_batch(messages).await;
    let mut confirmed = Vec::with_capacity(entries.len());
    let mut held: BTreeMap<String, usize> = BTreeMap::new();
    for (entry, result) in entries.iter().zip(results) {
        match result {
            Ok(()) => {
                tracing::debug!(attempt.id = %entry.attempt_id, task.id = %entry.task_id, "attempt offered");
                confirmed.push(entry.id);
            }
            Err(error) => *held.entry(error.to_string()).or_default() += 1,
        }
    }
    for (reason, messages) in held {
        tracing::warn!(messages, "jobs stay in the outbox: {reason}");
    }
    counter!("millrace_jobs_published_total").increment(confirmed.len() as u64);
    confirmed
}

fn outgoing(entry: &OutboxEntry) -> Outgoing {
    let route = JobRoute {
        arch: entry.arch.clone(),
        class: entry.memory_class.clone(),
    };
    Outgoing {
        route: route.into(),
        message_id: entry.attempt_id.0,
        body: entry.body.to_string().into_bytes(),
    }
}
