//! The sweeper: time turned into state. It finds leases that ran out, offers that nobody took, and cancelled work of
//! builders that fell silent. Any frontend may sweep at any time; nothing is decided without the row's lock. What is forgotten is in [`crate::retention::Retention`]'s hands.
//!
//! The time of the last sweep is stored. After a gap, something of ours was away, builders could not renew
//! their leases, and all of them are extended before any is judged.

use millrace_domain::{AttemptId, AttemptState, Outcome, OutcomeKind, Stage, TaskId};
use uuid::Uuid;

use crate::attempts::transition::{End, Next, lock, put_back, settle};
use crate::database::Store;
use crate::database::Tx;
use crate::error::StoreError;
use crate::row::{RowOf, Time, int4};

/// A longer time between two sweeps means that builders may have been without us.
pub(crate) const GAP_SECONDS: f64 = 5.0;
/// The most leases or offers judged by one sweep; the next one goes on.
const BATCH: i64 = 200;

/// The sweeper's patience.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepConfig {
    /// How long a claim holds without news.
    pub lease_seconds: u32,
    /// How long an offer waits for a claim after the broker had it.
    pub offer_seconds: u32,
    /// After how long a builder counts as silent: cancelled work is not waited for any longer.
    pub silent_seconds: u32,
}

/// What a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Leases extended after a gap.
    pub extended: u64,
    /// Attempts whose lease ran out.
    pub lost: Vec<(TaskId, AttemptId)>,
    /// Cancelled attempts taken back because their builders were silent.
    pub cancelled: Vec<(TaskId, AttemptId)>,
    /// Offers taken back because nobody claimed them.
    pub offers_expired: u64,
}

impl Store {
    /// One sweep; to be repeated each second.
    pub async fn sweep(&self, config: &SweepConfig) -> Result<Swept, StoreError> {
        let Some((as_of, extended)) = self.within(self.tick(config)).await? else {
            // Another frontend sweeps this very moment.
            return Ok(Swept::default());
        };
        let mut swept = Swept {
            extended,
            ..Swept::default()
        };
        for attempt in self.within(self.expired_leases(as_of)).await? {
            if let Some(task) = self.within(self.lose(attempt, as_of)).await? {
                swept.lost.push((task, attempt));
            }
        }
        swept.cancelled = self.revoke_silent(config.silent_seconds).await?;
        for attempt in self.within(self.expired_offers(as_of, config)).await? {
            swept.offers_expired += u64::from(self.within(self.expire_offer(attempt)).await?);
        }
        Ok(swept)
    }

    /// Stores the time of this sweep, and extends all leases after a gap. The time returned is the one by which
    /// leases are judged: a sweeper that stalls afterwards judges by a moment at which there was no gap.
    async fn tick(&self, config: &SweepConfig) -> Result<Option<(Time, u64)>, StoreError> {
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

    /// Ends an attempt whose lease ran out, unless a heartbeat, a report or another sweeper was faster.
    async fn lose(&self, attempt: AttemptId, as_of: Time) -> Result<Option<TaskId>, StoreError> {
        let mut tx = self.begin().await?;
        let Some(locked) = lock(&mut tx, attempt).await? else {
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
        let end = End {
            state: AttemptState::Lost,
            reason: Some("its lease ran out"),
            outcome: Some(&outcome),
        };
        settle(&mut tx, &locked, end, &Next::after(&locked, &outcome)).await?;
        tx.commit().await?;
        Ok(Some(TaskId(locked.task_id)))
    }

    /// Offers that the broker had long enough, and offers that never got as far as the outbox.
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
        let Some(locked) = lock(&mut tx, attempt).await? else {
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
