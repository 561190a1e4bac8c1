//! The sweeper's work on attempts: ends those whose lease ran out, takes back offers that no builder claimed, and cancelled
//! work of silent builders. Any frontend may sweep at any time; nothing is decided without the row's lock. Deletion is the
//! business of [`crate::retention::Retention`].
//!
//! The time of the last sweep is stored. A gap means that frontends or the database were away and builders could not renew
//! their leases: then all leases are extended before any of them expires.

use millrace_domain::{AttemptId, AttemptState, Outcome, OutcomeKind, Stage, TaskId};
use uuid::Uuid;

use crate::attempts::transition::{AttemptEnd, NextTaskState, end_attempt, lock_attempt, put_back};
use crate::database::Store;
use crate::database::Tx;
use crate::error::StoreError;
use crate::row::{RowOf, Time, int4};

/// A longer time between two sweeps, in seconds, is a gap in which builders may have reached no frontend.
pub(crate) const GAP_SECONDS: f64 = 5.0;
/// The most leases, and the most offers, that one sweep ends; the next sweep continues.
const BATCH: i64 = 200;

/// After how long the sweeper ends what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepConfig {
    /// How long a lease lasts without a heartbeat.
    pub lease_seconds: u32,
    /// How long an offer waits for a claim once the broker has confirmed it.
    pub offer_seconds: u32,
    /// How long a builder must have been silent for its cancelled work to be taken back.
    pub silent_seconds: u32,
}

/// What one sweep changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Number of leases that were extended after a gap.
    pub extended: u64,
    /// Attempts that were ended as lost because their lease ran out.
    pub lost: Vec<(TaskId, AttemptId)>,
    /// Cancelled attempts that were taken back because their builders were silent.
    pub cancelled: Vec<(TaskId, AttemptId)>,
    /// Number of offers that were taken back because no builder claimed them.
    pub offers_expired: u64,
}

impl Store {
    /// One sweep; to be repeated each second.
    pub async fn sweep(&self, config: &SweepConfig) -> Result<Swept, StoreError> {
        let Some((as_of, extended)) = self.within(self.record_sweep(config)).await? else {
            // Another frontend is sweeping.
            return Ok(Swept::default());
        };
        let mut swept = Swept {
            extended,
            ..Swept::default()
        };
        for attempt in self.within(self.expired_leases(as_of)).await? {
            if let Some(task) = self.within(self.expire_lease(attempt, as_of)).await? {
                swept.lost.push((task, attempt));
            }
        }
        swept.cancelled = self.revoke_silent(config.silent_seconds).await?;
        for attempt in self.within(self.expired_offers(as_of, config)).await? {
            swept.offers_expired += u64::from(self.within(self.expire_offer(attempt)).await?);
        }
        Ok(swept)
    }

    /// Stores the time of this sweep, and extends all leases after a gap. Leases are compared with the time returned: a
    /// sweeper that stalls afterwards still compares them with a moment at which there was no gap.
    async fn record_sweep(&self, config: &SweepConfig) -> Result<Option<(Time, u64)>, StoreError> {
        let mut tx = self.begin().await?;
        let last: Option<(Time, f64)> = sqlx::query_as(
            "select now(), extract(epoch from now() - ticked_at)::float8 from sweeper_ticks
             for update skip locked",
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some((now, gap)) = last else {
            return Ok(None);
        };
        let extended = if gap > GAP_SECONDS {
            extend_leases(&mut tx, gap + f64::from(config.lease_seconds)).await?
        } else {
            0
        };
        sqlx::query(
            "update sweeper_ticks set ticked_at = greatest(ticked_at, now()),
                 resumed_at = case when $1 then now() else resumed_at end",
        )
        .bind(gap > GAP_SECONDS)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Some((now, extended)))
    }

    async fn expired_leases(&self, as_of: Time) -> Result<Vec<AttemptId>, StoreError> {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "select id from attempts where state = 'claimed' and poller_id is null and lease_until < $1
             order by lease_until limit $2",
        )
        .bind(as_of)
        .bind(BATCH)
        .fetch_all(&self.pool)
        .await?;
        Ok(ids.into_iter().map(AttemptId).collect())
    }

    /// Ends an attempt whose lease ran out, unless a heartbeat, a report or another sweeper came first.
    async fn expire_lease(
        &self,
        attempt: AttemptId,
        as_of: Time,
    ) -> Result<Option<TaskId>, StoreError> {
        let mut tx = self.begin().await?;
        let Some(locked) = lock_attempt(&mut tx, attempt).await? else {
            return Ok(None);
        };
        let (expired, builder, stage): (bool, Option<String>, Option<String>) = sqlx::query_as(
            "select coalesce(a.lease_until < $2, false), b.name, a.stage
             from attempts a left join builders b on b.id = a.builder_id where a.id = $1",
        )
        .bind(attempt.0)
        .bind(as_of)
        .fetch_one(&mut *tx)
        .await?;
        if locked.attempt_state != AttemptState::Claimed || !expired {
            return Ok(None);
        }
        let stage = RowOf::new("attempts", attempt).parse_some(stage.as_deref())?;
        let outcome = lost_outcome(builder.as_deref().unwrap_or("unknown"), stage);
        let end = AttemptEnd {
            state: AttemptState::Lost,
            reason: Some("its lease ran out"),
            outcome: Some(&outcome),
        };
        end_attempt(
            &mut tx,
            &locked,
            end,
            &NextTaskState::after(&locked, &outcome),
        )
        .await?;
        tx.commit().await?;
        Ok(Some(TaskId(locked.task_id)))
    }

    /// Offers that the broker confirmed too long ago, and old ones that are in the outbox no more but were not confirmed.
    async fn expired_offers(
        &self,
        as_of: Time,
        config: &SweepConfig,
    ) -> Result<Vec<AttemptId>, StoreError> {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "select a.id from attempts a
             where a.state = 'offered'
                 and coalesce(a.confirmed_at, a.offered_at) < $1 - $2 * interval '1 second'
                 and (a.confirmed_at is not null or not exists (select from outbox o where o.attempt_id = a.id))
             order by a.id limit $3",
        )
        .bind(as_of)
        .bind(int4(config.offer_seconds))
        .bind(BATCH)
        .fetch_all(&self.pool)
        .await?;
        Ok(ids.into_iter().map(AttemptId).collect())
    }

    async fn expire_offer(&self, attempt: AttemptId) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let Some(locked) = lock_attempt(&mut tx, attempt).await? else {
            return Ok(false);
        };
        if locked.attempt_state != AttemptState::Offered {
            return Ok(false);
        }
        put_back(&mut tx, &locked, "no builder claimed it in time", 0).await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// Extends the leases of all claims, and the time until which pollers count as polling.
async fn extend_leases(tx: &mut Tx, seconds: f64) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "with live as (
            select id from attempts where state = 'claimed' order by id for no key update
        ), polling as (
            update legacy_pollers set alive_until = alive_until + $1 * interval '1 second' where removed_at is null
        )
        update attempts a set lease_until = a.lease_until + $1 * interval '1 second'
        from live where a.id = live.id and a.state = 'claimed'",
    )
    .bind(seconds)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}

fn lost_outcome(builder: &str, stage: Option<Stage>) -> Outcome {
    let last = stage.map_or_else(String::new, |stage| format!(", last in stage {stage}"));
    let message = format!("builder {builder} was not heard of for longer than its lease{last}");
    let outcome = Outcome::new(OutcomeKind::BuilderLost, message);
    Outcome { stage, ..outcome }
}
