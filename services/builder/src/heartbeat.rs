//! Says every few seconds what this builder has and what room is left, and carries out what the answer says. Its
//! loss is repaired by the next one, which then comes sooner; a frontend that is away stops no work.

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

/// Attempts in one heartbeat; more are told in further ones.
const BATCH: usize = 500;
/// Heartbeats keep this distance, however many events want one.
const MIN_GAP: Duration = Duration::from_millis(500);
/// After one that nobody heard the next follows so soon; after more of them as late as any.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// An answer later than this is no answer.
const DEADLINE: Duration = Duration::from_secs(15);

/// The heartbeat of a builder.
pub struct Heartbeat {
    ctx: Arc<Context>,
    bus: Bus,
    period: Duration,
    status: StatusFile,
    is_away: bool,
    /// Between heartbeats that nobody hears: many builders must not come back in step.
    backoff: Backoff,
}

impl Heartbeat {
    /// A heartbeat with the frontend's period.
    pub fn new(ctx: Arc<Context>, bus: Bus, period: Duration, status: StatusFile) -> Self {
        let period = period.max(MIN_GAP);
        Self {
            ctx,
            bus,
            period,
            status,
            is_away: false,
            backoff: Backoff::new(FIRST_RETRY, period),
        }
    }

    /// Beats until the builder has stopped and nothing is left to tell.
    pub async fn run(mut self) -> anyhow::Result<()> {
        loop {
            let began = Instant::now();
            self.beat().await;
            if self.wait_for_next(began).await {
                break;
            }
        }
        self.status.remove();
        Ok(())
    }

    /// Waits for the next beat; true when there is none.
    async fn wait_for_next(&mut self, began: Instant) -> bool {
        let ctx = Arc::clone(&self.ctx);
        let (stopping, handing_back) = (ctx.shutdown.is_stopping(), ctx.shutdown.is_handing_back());
        let next = match (self.is_away, handing_back) {
            (true, _) => Instant::now() + self.backoff.next_delay(),
            (false, true) => began + MIN_GAP,
            // A builder that stops keeps its leases while it finishes what it has.
            (false, false) => began + self.period,
        };
        let mut forgotten = ctx.registry.forgotten();
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
                // Perhaps that was the last. Their senders live as long as the context.
                Ok(()) = forgotten.changed(), if stopping => continue,
                Ok(()) = room.changed(), if stopping => continue,
            }
            return false;
        }
    }

    /// Whether there is no attempt, and none that is being asked for.
    fn is_idle(&self) -> bool {
        self.ctx.registry.count() == 0 && self.ctx.room.is_idle()
    }

    /// One heartbeat.
    pub async fn beat(&mut self) {
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

    async fn send(&self, attempts: &[AttemptStatus]) -> Result<(), String> {
        let free = self.ctx.room.free();
        let stopping = self.ctx.shutdown.is_stopping();
        let beat = HeartbeatRequest {
            // A builder that stops has no room, so nothing more is released for it.
            free_mib: if stopping { 0 } else { free.mib },
            free_sandboxes: if stopping { 0 } else { free.sandboxes },
            attempts: attempts.to_vec(),
            hindrances: self.ctx.hindrances(),
            stopping,
            self_test_passed: self.ctx.self_tests.passed(),
        };
        let answer = tokio::time::timeout(DEADLINE, self.ctx.frontend.heartbeat(&beat))
            .await
            .map_err(|_| format!("no answer within {} s", DEADLINE.as_secs()))?
            .map_err(|error| error.to_string())?;
        self.ctx.room.set_min_task(answer.reserve_mib);
        self.ctx.self_tests.ask(answer.self_test);
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

    /// Tells log and health check how it went, the log only when it changed.
    async fn record(&mut self, trouble: Option<String>) {
        match &trouble {
            Some(reason) if !self.is_away => {
                tracing::warn!("the frontend does not hear this builder, work goes on: {reason}");
            }
            None if self.is_away => tracing::info!("the frontend hears this builder again"),
            _ => {}
        }
        self.is_away = trouble.is_some();
        if !self.is_away {
            self.backoff.reset();
        }
        let trouble = trouble
            .map(|reason| format!("the frontend does not hear this builder: {reason}"))
            .or_else(|| self.broker_trouble())
            .or_else(|| self.disk_trouble());
        let status = self.status.clone();
        let written = on_disk(move || {
            status.write(trouble);
            Ok(())
        });
        if let Err(error) = written.await {
            tracing::warn!("cannot write the status: {error}");
        }
    }

    fn disk_trouble(&self) -> Option<String> {
        let Shortage {
            free_mib,
            floor_mib,
        } = self.ctx.disk.shortage()?;
        Some(format!(
            "the spool's disk is short of space: {free_mib} MiB are free, {floor_mib} MiB are wanted"
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
