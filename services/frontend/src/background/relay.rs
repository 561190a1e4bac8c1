//! Moves work from the truth to the broker: releases waiting tasks while builders have room, and publishes the
//! outbox with confirms.
//!
//! It wakes at once after a commit of this frontend, by `NOTIFY` after one of another, and each second in any case, so
//! a lost wake costs a second. While the broker is down or blocked nothing is released. What was returned or not
//! confirmed stays in the outbox and is published again under the same id; the second copy loses the claim. After a
//! failure the next step keeps a growing distance, whoever wakes it.

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

/// How often the relay looks without being woken.
const LOOK: Duration = Duration::from_secs(1);
/// Under load what comes within this time of a publication goes out together: a look costs more than a message.
const GATHER: Duration = Duration::from_millis(10);
/// The distance that is kept after a failure, at first and at most.
const FIRST_REST: Duration = Duration::from_millis(200);
const LONGEST_REST: Duration = Duration::from_secs(5);
/// Messages published at once.
const BATCH: u32 = ReleaseConfig::BATCH;
/// What is released and unclaimed, as a multiple of the room. More than the room would let an owner's orders stand in
/// the broker's queue before another owner's turn.
const WINDOW_FACTOR: u32 = 1;

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The broker cannot be published to: nothing was touched.
    Paused,
    /// There was nothing to publish.
    Idle,
    /// Everything that can go is gone.
    Done,
    /// There may be more at once.
    More,
    /// Some messages could not be published; they stay for later.
    Unconfirmed,
}

/// Relays until the stop.
pub async fn run(state: AppState) -> anyhow::Result<()> {
    if !state.wait_ready().await {
        return Ok(());
    }
    let mut others = state.store.listen();
    let mut link = state.bus.publishing();
    let mut look_again = Instant::now();
    let mut backoff = Backoff::new(FIRST_REST, LONGEST_REST);
    while !state.shutdown.is_stopping() {
        let began = Instant::now();
        let leftovers = began >= look_again;
        if leftovers {
            look_again = began + LOOK;
        }
        let step = tick(&state, leftovers).await;
        match &step {
            Ok(Step::More | Step::Done | Step::Idle) => backoff.reset(),
            Ok(Step::Paused | Step::Unconfirmed) => {}
            Err(error) if error.is_unavailable() => {
                tracing::warn!("the relay waits for the database: {error}");
            }
            Err(error) => tracing::error!("the relay failed, it goes on in a moment: {error}"),
        }
        let rest = match step {
            Ok(Step::More) => continue,
            Ok(Step::Done) => began + GATHER,
            Ok(Step::Paused | Step::Idle) => began,
            Ok(Step::Unconfirmed) | Err(_) => Instant::now() + backoff.next_delay(),
        };
        tokio::select! {
            () = state.relay_wake.notified() => {}
            () = others.next() => {}
            _ = link.changed() => {}
            () = tokio::time::sleep_until(look_again) => {}
            () = state.shutdown.stopping() => {}
        }
        tokio::select! {
            () = tokio::time::sleep_until(rest) => {}
            () = state.shutdown.stopping() => {}
        }
    }
    Ok(())
}

/// Releases what the window allows and publishes it; with `leftovers` also what others released and did not publish.
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
    // Until this look has seen what waits, room that becomes free meanwhile asks for another one.
    state.held_back.store(true, Ordering::Release);
    let release = state
        .store
        .release_tasks(&config, job_message::message)
        .await?;
    state.held_back.store(release.held_back, Ordering::Release);
    counter!("millrace_tasks_released_total").increment(release.entries.len() as u64);
    entries.extend(release.entries);
    if entries.is_empty() {
        state.broker_away.note(true);
        return Ok(Step::Idle);
    }
    crash_point!("release.committed");
    let is_full = entries.len() >= BATCH as usize;
    let (confirmed, held) = publish(state, entries).await;
    crash_point!("release.published");
    state.store.confirm_published(&confirmed).await?;
    crash_point!("release.confirmed");
    state.store.give_back_outbox(&held).await?;
    Ok(match (held.is_empty(), is_full) {
        (false, _) => Step::Unconfirmed,
        (true, true) => Step::More,
        (true, false) => Step::Done,
    })
}

/// Publishes orders; those that the broker confirmed, and those that it did not.
async fn publish(
    state: &AppState,
    entries: Vec<OutboxEntry>,
) -> (Vec<OutboxEntry>, Vec<OutboxEntry>) {
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
    let (mut confirmed, mut held) = (Vec::with_capacity(entries.len()), Vec::new());
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut is_away = false;
    for (entry, result) in entries.into_iter().zip(results) {
        match result {
            Ok(()) => {
                tracing::debug!(attempt.id = %entry.attempt_id, task.id = %entry.task_id, "attempt offered");
                confirmed.push(entry);
            }
            Err(error) => {
                is_away |= is_brokers_silence(&error);
                *reasons.entry(error.to_string()).or_default() += 1;
                held.push(entry);
            }
        }
    }
    state.broker_away.note_asked(!is_away, began);
    for (reason, messages) in reasons {
        tracing::warn!(messages, "jobs stay in the outbox: {reason}");
    }
    counter!("millrace_jobs_published_total").increment(confirmed.len() as u64);
    (confirmed, held)
}

/// Whether an order was not published because the broker does not answer, rather than because it refused.
fn is_brokers_silence(error: &PublishError) -> bool {
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
