//! The heartbeat: reports every few seconds which attempts this builder holds and how much room is free, and carries out
//! the frontend's answer. A lost heartbeat is made up for by the next one, which comes sooner. Work goes on while the
//! frontend does not answer.

use std::sync::Arc;
use std::time::Duration;

use millrace_bus::{Bus, LinkState};
use millrace_chassis::{Backoff, BackoffExt};
use millrace_wire::{AttemptStatus, HeartbeatRequest};
use tokio::time::Instant;

use crate::context::Context;
use crate::engine::room::ClosedReason;
use crate::health_file::StatusFile;
use crate::spool::blocking::on_disk;
use crate::spool::disk_space::Shortage;

/// The most attempts in one heartbeat request; more go into further requests.
const BATCH: usize = 500;
/// The least time between two heartbeats, however many events ask for one.
const MIN_GAP: Duration = Duration::from_millis(500);
/// The first pause after a heartbeat that failed; it grows up to the ordinary period.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// How long the frontend may take to answer.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The heartbeat of one builder, with what it reports to the log and the health check.
pub struct Heartbeat {
    ctx: Arc<Context>,
    bus: Bus,
    period: Duration,
    status: StatusFile,
    is_unanswered: bool,
    /// Between heartbeats that fail, with jitter: many builders must not come back in the same second.
    backoff: Backoff,
}

impl Heartbeat {
    /// A heartbeat with the period that the frontend gave at the enrolment.
    pub fn new(ctx: Arc<Context>, bus: Bus, period: Duration, status: StatusFile) -> Self {
        let period = period.max(MIN_GAP);
        Self {
            ctx,
            bus,
            period,
            status,
            is_unanswered: false,
            backoff: Backoff::new(FIRST_RETRY, period),
        }
    }

    /// Sends heartbeats until the builder has stopped and holds no attempt.
    pub async fn run(mut self) -> anyhow::Result<()> {
        loop {
            let began = Instant::now();
            self.send_all().await;
            if self.wait_for_next(began).await {
                break;
            }
        }
        self.status.remove();
        Ok(())
    }

    /// Waits until the next heartbeat is due; true when there is no further one.
    async fn wait_for_next(&mut self, began: Instant) -> bool {
        let ctx = Arc::clone(&self.ctx);
        let (stopping, handing_back) = (ctx.shutdown.is_stopping(), ctx.shutdown.is_handing_back());
        let next = match (self.is_unanswered, handing_back) {
            (true, _) => Instant::now() + self.backoff.next_delay(),
            (false, true) => began + MIN_GAP,
            // A builder that stops extends its leases while it finishes its attempts.
            (false, false) => began + self.period,
        };
        let mut removals = ctx.registry.removals();
        let mut room = ctx.room.changes();
        loop {
            if stopping && (self.is_idle() || ctx.leaving.is_cancelled()) {
                return true;
            }
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = ctx.heartbeat_wake.notified() => tokio::time::sleep_until(began + MIN_GAP).await,
                () = ctx.shutdown.stopping(), if !stopping => {}
                () = ctx.shutdown.handing_back(), if !handing_back => {}
                () = ctx.leaving.cancelled() => {}
                // That attempt may have been the last. The senders live as long as the context.
                Ok(()) = removals.changed(), if stopping => continue,
                Ok(()) = room.changed(), if stopping => continue,
            }
            return false;
        }
    }

    /// Whether the builder holds no attempt and is claiming none.
    fn is_idle(&self) -> bool {
        self.ctx.registry.count() == 0 && self.ctx.room.is_idle()
    }

    /// One heartbeat: all attempts, in as many requests as they need.
    async fn send_all(&mut self) {
        let statuses = self.ctx.registry.statuses();
        let mut trouble = None;
        let mut rest = statuses.as_slice();
        loop {
            let (batch, more) = rest.split_at(rest.len().min(BATCH));
            trouble = trouble.or(self.send(batch).await.err());
            rest = more;
            if rest.is_empty() || trouble.is_some() {
                break;
            }
        }
        self.record(trouble).await;
    }

    /// Sends one request and carries out the answer.
    async fn send(&self, attempts: &[AttemptStatus]) -> Result<(), String> {
        let free = self.ctx.room.free();
        let stopping = self.ctx.shutdown.is_stopping();
        let beat = HeartbeatRequest {
            // A builder that stops reports no free room, so the frontend releases nothing more for it.
            free_mib: if stopping { 0 } else { free.mib },
            free_sandboxes: if stopping { 0 } else { free.sandboxes },
            attempts: attempts.to_vec(),
            hindrances: self.ctx.hindrances(),
            stopping,
            self_test_passed: self.ctx.self_tests.passed(),
        };
        let answer = tokio::time::timeout(TIMEOUT, self.ctx.frontend.heartbeat(&beat))
            .await
            .map_err(|_| format!("no answer within {} s", TIMEOUT.as_secs()))?
            .map_err(|error| error.to_string())?;
        self.ctx.room.set_min_task(answer.reserve_mib);
        self.ctx.self_tests.request(answer.self_test);
        if answer.drain {
            self.ctx.room.close(ClosedReason::Drained);
        } else {
            self.ctx.room.open(ClosedReason::Drained);
        }
        for attempt in answer.attempts {
            if let Some(running) = self.ctx.registry.get(attempt.attempt_id) {
                running.apply(attempt.verdict);
            }
        }
        Ok(())
    }

    /// Writes to the health file whether the heartbeat was answered, and to the log when that changed.
    async fn record(&mut self, trouble: Option<String>) {
        match &trouble {
            Some(reason) if !self.is_unanswered => {
                tracing::warn!("the frontend does not answer heartbeats, work goes on: {reason}");
            }
            None if self.is_unanswered => tracing::info!("the frontend answers heartbeats again"),
            _ => {}
        }
        self.is_unanswered = trouble.is_some();
        if !self.is_unanswered {
            self.backoff.reset();
        }
        let trouble = trouble
            .map(|reason| format!("the frontend does not answer heartbeats: {reason}"))
            .or_else(|| self.broker_trouble())
            .or_else(|| self.disk_trouble());
        let status = self.status.clone();
        let written = on_disk(move || {
            status.write(trouble);
            Ok(())
        });
        if let Err(error) = written.await {
            tracing::warn!("cannot write the status file: {error}");
        }
    }

    fn disk_trouble(&self) -> Option<String> {
        let Shortage {
            free_mib,
            floor_mib,
        } = self.ctx.disk.shortage()?;
        Some(format!(
            "the spool's disk is short of space: {free_mib} MiB are free, {floor_mib} MiB are required"
        ))
    }

    fn broker_trouble(&self) -> Option<String> {
        match &*self.bus.consuming().borrow() {
            LinkState::Up => None,
            LinkState::Down { reason, .. } | LinkState::Blocked { reason, .. } => {
                Some(format!("no jobs from RabbitMQ: {reason}"))
            }
        }
    }
}
