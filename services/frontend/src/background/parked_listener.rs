//! Moves parked messages and dead letters from the broker into a table that people can list, with their secrets
//! redacted. The attempt that such a message was about is revoked, so that its task gets the next one. A report is
//! accepted after all where that works now: an outage of the database that outlasts all its deliveries must not cost
//! the work.

use std::sync::Arc;

use millrace_bus::{ConsumerOptions, EVENTS_QUEUE, Incoming, PARKED_QUEUE, Verdict, run_consumer};
use millrace_domain::AttemptId;
use millrace_store::StoreError;
use millrace_wire::FinishedV1;
use serde_json::Value;
use tracing::Instrument;

use crate::background::redact::redact;
use crate::background::report_listener;
use crate::state::AppState;

/// Longest queue name and reason that is stored, in characters.
const MAX_REASON: usize = 500;

/// Consumes the parked queue until the stop.
pub async fn run(state: AppState) -> anyhow::Result<()> {
    if !state.wait_ready().await {
        return Ok(());
    }
    let options = ConsumerOptions::new(PARKED_QUEUE, 1);
    let stop = state.shutdown.soft().clone();
    let bus = state.bus.clone();
    run_consumer(&bus, options, stop, move |incoming| {
        handle(state.clone(), incoming)
    })
    .await;
    Ok(())
}

async fn handle(state: AppState, incoming: Arc<Incoming>) -> Verdict {
    match park(&state, &incoming).await {
        Ok(()) => Verdict::Done,
        // This queue is the last one, so the message stays in it until the database takes it.
        Err(error) => {
            tracing::warn!("a parked message waits in its queue: {error}");
            Verdict::Again
        }
    }
}

async fn park(state: &AppState, incoming: &Incoming) -> Result<(), StoreError> {
    let (queue, reason) = match &incoming.origin {
        Some(origin) => (
            origin.queue.as_deref().unwrap_or("unknown"),
            origin.reason.as_str(),
        ),
        None => ("unknown", "published here without a reason"),
    };
    if queue == EVENTS_QUEUE && is_report_accepted(state, incoming).await? {
        return Ok(());
    }
    let reason: String = redact(reason.as_bytes()).chars().take(MAX_REASON).collect();
    let queue: String = redact(queue.as_bytes()).chars().take(MAX_REASON).collect();
    state
        .store
        .park(&queue, &reason, &redact(&incoming.body))
        .await?;
    tracing::warn!(queue, reason, "message parked");
    metrics::counter!("millrace_messages_parked_total").increment(1);
    if let Some(attempt) = attempt_of(&incoming.body)
        && state
            .store
            .revoke_attempt(attempt, &format!("its message was parked: {reason}"))
            .await?
    {
        tracing::warn!(attempt.id = %attempt, "attempt revoked because its message was parked");
        state.relay_wake.notify_one();
        state.log_followers.notify(attempt);
    }
    Ok(())
}

/// Whether this is a report that the store accepted or refused by now, so that there is nothing to park.
async fn is_report_accepted(state: &AppState, incoming: &Incoming) -> Result<bool, StoreError> {
    let Ok(envelope) = incoming.decode::<FinishedV1>() else {
        return Ok(false);
    };
    let span = tracing::error_span!("report", attempt.id = %envelope.body.attempt_id);
    let accepted = report_listener::accept_report(state, envelope.body).instrument(span.clone());
    let accepted = accepted.await;
    let _span = span.entered();
    match accepted {
        Ok(()) => {
            tracing::warn!("a report that the broker had given up was processed after all");
            Ok(true)
        }
        Err(error) if error.is_unavailable() => Err(error),
        Err(error) => {
            tracing::error!("a report that the broker had given up cannot be processed: {error}");
            Ok(false)
        }
    }
}

/// The attempt id in a message's body; none where it cannot be read. Later versions of messages have it too.
fn attempt_of(body: &[u8]) -> Option<AttemptId> {
    let message: Value = serde_json::from_slice(body).ok()?;
    message
        .get("body")?
        .get("attempt_id")?
        .as_str()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attempt_is_found_in_messages_of_later_versions_too() {
        let id = AttemptId::generate();
        let later =
            format!(r#"{{"kind":"job","version":9,"body":{{"attempt_id":"{id}","new":1}}}}"#);
        assert_eq!(attempt_of(later.as_bytes()), Some(id));
        assert_eq!(attempt_of(b"{\"body\":{\"attempt_id\":7}}"), None);
        assert_eq!(attempt_of(b"\xff"), None);
    }
}
