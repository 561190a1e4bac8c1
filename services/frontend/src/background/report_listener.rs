//! Accepts the reports of builders about ended attempts. The lease token alone authenticates a report; it is accepted
//! once, however often it is delivered. While the database is away reports are not lost: the broker keeps them until
//! they are acknowledged.

use std::sync::Arc;

use metrics::counter;
use millrace_bus::{ConsumerOptions, EVENTS_QUEUE, Incoming, Verdict, run_consumer};
use millrace_chassis::crash_point;
use millrace_domain::{BuilderId, TaskState};
use millrace_store::{Acceptance, FileView, Finished, FinishedPackage, StoreError};
use millrace_wire::{FinishedV1, PackageReport};
use tracing::Instrument;

use crate::background::suggest_limits;
use crate::state::AppState;

/// Reports processed at the same time.
const CONCURRENCY: usize = 16;
/// Deliveries of a report that the database refuses before it is parked; minutes lie between two of them.
const DELIVERIES: u64 = 2;

/// Consumes the queue of events until the stop.
pub async fn run(state: AppState) -> anyhow::Result<()> {
    if !state.wait_ready().await {
        return Ok(());
    }
    let options = ConsumerOptions::new(EVENTS_QUEUE, CONCURRENCY);
    let stop = state.shutdown.soft().clone();
    let bus = state.bus.clone();
    run_consumer(&bus, options, stop, move |incoming| {
        handle(state.clone(), incoming)
    })
    .await;
    Ok(())
}

async fn handle(state: AppState, incoming: Arc<Incoming>) -> Verdict {
    let report = match incoming.decode::<FinishedV1>() {
        Ok(envelope) => envelope.body,
        Err(verdict) => return verdict,
    };
    let span = tracing::error_span!("report", attempt.id = %report.attempt_id);
    verdict(&state, report, &incoming).instrument(span).await
}

/// What becomes of the message: done, repeated while the database may still take it, or parked.
async fn verdict(state: &AppState, report: FinishedV1, incoming: &Incoming) -> Verdict {
    match accept_report(state, report).await {
        Ok(()) => Verdict::Done,
        Err(error) if error.is_unavailable() => {
            tracing::warn!("a report waits for the database: {error}");
            Verdict::Again
        }
        // A report is finished work, so an operator gets time to repair the database.
        Err(error) if incoming.delivery_count < DELIVERIES => {
            tracing::error!("a report cannot be accepted now: {error}");
            Verdict::Again
        }
        Err(error) => {
            tracing::error!("a report cannot be accepted: {error}");
            Verdict::Park(format!("cannot be accepted: {error}"))
        }
    }
}

/// Has the store accept or refuse a report, and acts on the answer. An error means that the report was not decided.
pub async fn accept_report(state: &AppState, report: FinishedV1) -> Result<(), StoreError> {
    let has_log = report.log_size > 0;
    let builder = report.builder_id;
    let mut report = finished(report);
    report.set_aside_faults = state.settings.config.leases.set_aside_faults;
    suggest_limits::add(state, &mut report).await?;
    crash_point("report.received");
    let acceptance = state.store.accept(&report).await?;
    crash_point("report.settled");
    if let Acceptance::Accepted {
        set_aside: true, ..
    } = acceptance
    {
        report_set_aside(state, builder, &report);
    }
    if log_acceptance(state, &report, acceptance) && has_log {
        state.sealer.seal(report.attempt_id).await;
    }
    crash_point("report.unacknowledged");
    Ok(())
}

/// Logs and counts the store's answer, and wakes relay and log followers; whether the attempt has ended.
fn log_acceptance(state: &AppState, report: &Finished, acceptance: Acceptance) -> bool {
    let (word, ended) = match acceptance {
        Acceptance::Accepted { task_state, .. } => {
            tracing::info!(
                outcome = %report.outcome.kind,
                task.state = %task_state,
                "report accepted"
            );
            wake_relay(state, task_state);
            state.log_followers.notify(report.attempt_id);
            ("accepted", true)
        }
        Acceptance::Duplicate => {
            // The first delivery may have ended between accepting and sealing.
            ("duplicate", true)
        }
        Acceptance::Refused(reason) => {
            tracing::info!(reason, "report refused");
            ("refused", false)
        }
        Acceptance::Missing(files) => {
            tracing::warn!(
                files = files.len(),
                "report names files that were not uploaded, asking its builder for them"
            );
            ("missing", false)
        }
    };
    counter!("millrace_reports_total", "acceptance" => word).increment(1);
    ended
}

/// Logs that the report had its builder set aside, and asks the builder for a heartbeat, whose answer says so.
fn report_set_aside(state: &AppState, builder: BuilderId, report: &Finished) {
    tracing::warn!(
        builder.id = %builder,
        faults = report.set_aside_faults,
        last = %report.outcome.kind,
        "builder set aside after repeated faults of its own; it returns when its self-test has passed: {}",
        report.outcome.message
    );
    counter!("millrace_builders_set_aside_total").increment(1);
    state.hints.heartbeat(builder);
}

/// A terminal task has freed room; any other is to be offered again.
fn wake_relay(state: &AppState, task: TaskState) {
    if task.is_terminal() {
        state.wake_relay_if_held_back();
    } else {
        state.relay_wake.notify_one();
    }
}

fn finished(report: FinishedV1) -> Finished {
    Finished {
        attempt_id: report.attempt_id,
        lease_token_hash: report.lease_token.hash(),
        outcome: report.outcome,
        packages: report.packages.into_iter().map(package).collect(),
        stages: report.stages,
        image_digest: report.image_digest,
        image_baked_at: report.image_baked_at,
        set_aside_faults: 0,
        raise: None,
    }
}

fn package(report: PackageReport) -> FinishedPackage {
    FinishedPackage {
        position: report.position,
        source: report.source,
        outcome: report.outcome,
        files: report
            .files
            .into_iter()
            .map(|file| FileView {
                name: file.name,
                size: file.size,
                sha256: file.sha256,
            })
            .collect(),
    }
}
