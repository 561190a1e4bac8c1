//! Moves work from the database to the broker: releases waiting tasks while builders have room, and publishes the
//! outbox with confirms.
//!
//! It wakes at once after a commit of this frontend, by `NOTIFY` after one of another, and each second in any case, so
//! a lost wake costs a second. While the broker is down or blocked nothing is released. What was returned or not
//! confirmed stays in the outbox and is published again under the same id; the second copy loses the claim. After a
//! failure the next step waits for a growing back-off, whatever wakes the relay.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::Utc;
use metrics::counter;
use millrace_bus::{JobRoute, Outgoing, PublishError};
use millrace_chassis::{Backoff, BackoffExt, crash_point};
use millrace_store::{OutboxEntry, ReleaseConfig, StoreError};
use tokio::time::Instant;

use crate::background::job_message;
use crate::state::AppState;

/// The time between two steps without a wake.
const TICK: Duration = Duration::from_secs(1);
/// Under load, tasks that come within this time after a publication go out together: a release costs more than a
/// message.
const BATCH_DELAY: Duration = Duration::from_millis(10);
/// The first and the longest pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Messages released and published in one step.
const BATCH: u32 = ReleaseConfig::BATCH;
/// Released and unclaimed tasks at most, as a multiple of the room of builders. More would let the orders of one owner
/// stand in the broker's queue before those of another.
const WINDOW_FACTOR: u32 = 1;

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The broker cannot be published to: nothing was touched.
    Paused,
    /// There was nothing to publish.
    Idle,
    /// Everything that has room was published.
    Done,
    /// A full batch was published; there may be more.
    More,
    /// Some messages were not confirmed; they stay in the outbox.
    Unconfirmed,
}

/// Relays until the stop.
pub async fn run(state: AppState) -> anyhow::Result<()> {
    if !state.wait_ready().await {
        return Ok(());
    }
    let mut others = state.store.listen();
    let mut link = state.bus.publishing();
    let mut next_tick = Instant::now();
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    while !state.shutdown.is_stopping() {
        let began = Instant::now();
        let leftovers = began >= next_tick;
        if leftovers {
            next_tick = began + TICK;
        }
        let step = tick(&state, leftovers).await;
        match &step {
            Ok(Step::More | Step::Done | Step::Idle) => backoff.reset(),
            Ok(Step::Paused | Step::Unconfirmed) => {}
            Err(error) if error.is_unavailable() => {
                tracing::warn!("the relay waits for the database: {error}");
            }
            Err(error) => tracing::error!("the relay failed, it tries again in a moment: {error}"),
        }
        let not_before = match step {
            Ok(Step::More) => continue,
            Ok(Step::Done) => began + BATCH_DELAY,
            Ok(Step::Paused | Step::Idle) => began,
            Ok(Step::Unconfirmed) | Err(_) => Instant::now() + backoff.next_delay(),
        };
        tokio::select! {
            () = state.relay_wake.notified() => {}
            () = others.next() => {}
            _ = link.changed() => {}
            () = tokio::time::sleep_until(next_tick) => {}
            () = state.shutdown.stopping() => {}
        }
        tokio::select! {
            () = tokio::time::sleep_until(not_before) => {}
            () = state.shutdown.stopping() => {}
        }
    }
    Ok(())
}

/// Releases what the window allows and publishes it; with `leftovers` also orders that a frontend released and did not
/// publish in time.
pub async fn tick(state: &AppState, leftovers: bool) -> Result<Step, StoreError> {
    if !state.bus.publishing().borrow().is_up() {
        return Ok(Step::Paused);
    }
    let config = ReleaseConfig {
        window_factor: WINDOW_FACTOR,
        max_batch: BATCH,
        age_seconds: state.settings.config.fairness.priority_age_seconds,
        owner_running: state.settings.config.fairness.owner_running,
    };
    let mut entries = if leftovers {
        state.store.take_outbox(BATCH).await?
    } else {
        Vec::new()
    };
    // Room that becomes free during this release must lead to another one, so it wakes the relay until the result is
    // known.
    state.held_back.store(true, Ordering::Release);
    let release = state
        .store
        .release_tasks(&config, job_message::message)
        .await?;
    state.held_back.store(release.held_back, Ordering::Release);
    counter!("millrace_tasks_released_total").increment(release.entries.len() as u64);
    entries.extend(release.entries);
    if entries.is_empty() {
        state.broker_outage.note(true);
        return Ok(Step::Idle);
    }
    crash_point("release.committed");
    let is_full = entries.len() >= BATCH as usize;
    let Published {
        confirmed,
        unconfirmed,
    } = publish(state, entries).await;
    crash_point("release.published");
    state.store.confirm_published(&confirmed).await?;
    crash_point("release.confirmed");
    state.store.give_back_outbox(&unconfirmed).await?;
    Ok(match (unconfirmed.is_empty(), is_full) {
        (false, _) => Step::Unconfirmed,
        (true, true) => Step::More,
        (true, false) => Step::Done,
    })
}

/// The entries of a step, by whether the broker confirmed them.
struct Published {
    confirmed: Vec<OutboxEntry>,
    unconfirmed: Vec<OutboxEntry>,
}

/// Publishes orders and waits for the broker to confirm each.
async fn publish(state: &AppState, entries: Vec<OutboxEntry>) -> Published {
    let routes: BTreeSet<(&str, &str)> = entries
        .iter()
        .map(|entry| (entry.arch.as_str(), entry.memory_class.as_str()))
        .collect();
    for (arch, class) in routes {
        let (arch, class) = (arch.to_owned(), class.to_owned());
        state.bus.expect_jobs(&JobRoute { arch, class });
    }
    let messages = entries.iter().map(outgoing).collect();
    let began = Utc::now();
    let results = state.bus.publisher().publish_batch(messages).await;
    let (mut confirmed, mut unconfirmed) = (Vec::with_capacity(entries.len()), Vec::new());
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut is_down = false;
    for (entry, result) in entries.into_iter().zip(results) {
        match result {
            Ok(()) => {
                tracing::debug!(attempt.id = %entry.attempt_id, task.id = %entry.task_id, "attempt offered");
                confirmed.push(entry);
            }
            Err(error) => {
                is_down |= is_unanswered(&error);
                *reasons.entry(error.to_string()).or_default() += 1;
                unconfirmed.push(entry);
            }
        }
    }
    state.broker_outage.note_asked(!is_down, began);
    for (reason, messages) in reasons {
        tracing::warn!(messages, "orders stay in the outbox: {reason}");
    }
    counter!("millrace_jobs_published_total").increment(confirmed.len() as u64);
    Published {
        confirmed,
        unconfirmed,
    }
}

/// Whether an order was not published because the broker did not answer, rather than because it refused.
fn is_unanswered(error: &PublishError) -> bool {
    match error {
        PublishError::Deadline(_)
        | PublishError::Lost(_)
        | PublishError::Disconnected(_)
        | PublishError::Blocked(_) => true,
        PublishError::Returned { .. }
        | PublishError::Nacked
        | PublishError::TooLong
        | PublishError::Closed => false,
    }
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
