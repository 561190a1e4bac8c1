//! Takes in what builders say of ended attempts. A report is believed for its lease token alone; it is taken once,
//! however often it is delivered. While the database is away reports are held, not lost: the broker keeps them until
//! they are acknowledged.

use std::sync::Arc;

use metrics::counter;
use millrace_bus::{ConsumerOptions, EVENTS_QUEUE, Incoming, Verdict, run_consumer};
use millrace_chassis::crash_point;
use millrace_domain::{BuilderId, TaskState};
use millrace_store::{Acceptance, FileView, Finished, FinishedPackage, StoreError};
use millrace_wire::{FinishedV1, PackageReport};

use crate::background::suggest_limits;
use crate::state::AppState;

/// Reports taken in at once.
const CONCURRENCY: usize = 16;
/// How often a report that the database refuses is handed out again, each time held for minutes, before it is parked.
const DELIVERIES: u64 = 2;

/// Listens until the stop.
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
    let attempt = report.attempt_id;
    match accept_report(&state, report).await {
        Ok(()) => Verdict::Done,
        Err(error) if error.is_unavailable() => {
            tracing::warn!(attempt.id = %attempt, "a report waits for the database: {error}");
            Verdict::Again
        }
        // A report is finished work: someone may still repair what stands in its way.
        Err(error) if incoming.delivery_count < DELIVERIES => {
            tracing::error!(attempt.id = %attempt, "a report cannot be accepted now: {error}");
            Verdict::Again
        }
        Err(error) => {
            tracing::error!(attempt.id = %attempt, "a report cannot be accepted: {error}");
            Verdict::Park(format!("cannot be accepted: {error}"))
        }
    }
}

/// Takes a report in, whatever comes of it.
pub async fn accept_report(state: &AppState, report: FinishedV1) -> Result<(), StoreError> {
    let has_log = report.log_size > 0;
    let builder = report.builder_id;
    let mut report = finished(report);
    report.set_aside_faults = state.settings.config.leases.set_aside_faults;
    suggest_limits::add(state, &mut report).await?;
    crash_point!("report.received");
    let acceptance = state.store.accept(&report).await?;
    crash_point!("report.settled");
    if let Acceptance::Accepted {
        set_aside: true, ..
    } = acceptance
    {
        tell_set_aside(state, builder, &report);
    }
    if settle(state, &report, acceptance) && has_log {
        state.sealer.seal(report.attempt_id).await;
    }
    crash_point!("report.unacknowledged");
    Ok(())
}

/// Tells what came of a report; whether its attempt has ended with it.
fn settle(state: &AppState, report: &Finished, acceptance: Acceptance) -> bool {
    let attempt = report.attempt_id;
    let (word, ended) = match acceptance {
        Acceptance::Accepted { task_state, .. } => {
            tracing::info!(
                attempt.id = %attempt,
                outcome = %report.outcome.kind,
                task.state = %task_state,
                "report accepted"
            );
            wake_relay(state, task_state);
            state.log_followers.notify(attempt);
            ("accepted", true)
        }
        Acceptance::Duplicate => {
            // The first delivery may have ended between accepting and sealing.
            ("duplicate", true)
        }
        Acceptance::Refused(reason) => {
            tracing::info!(attempt.id = %attempt, reason, "report refused");
            ("refused", false)
        }
        Acceptance::Missing(files) => {
            tracing::warn!(attempt.id = %attempt, files = files.len(), "report lacks files, asking for them");
            ("missing", false)
        }
    };
    counter!("millrace_reports_total", "acceptance" => word).increment(1);
    ended
}

/// The attempt's own builder was set aside; it hears of it at once.
fn tell_set_aside(state: &AppState, builder: BuilderId, report: &Finished) {
    tracing::warn!(
        builder.id = %builder,
        faults = report.set_aside_faults,
        last = %report.outcome.kind,
        "builder set aside for repeated faults of its own; it returns when its self-test has passed: {}",
        report.outcome.message
    );
    counter!("millrace_builders_set_aside_total").increment(1);
    state.hints.heartbeat(builder);
}

/// A task that is over leaves room; one that goes on is to be offered again.
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
