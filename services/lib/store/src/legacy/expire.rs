//! Pollers that stopped polling: builds that they did not start go to the queue, and so do builds that they started and did
//! not end in time. A build moves as a whole, and never back to a poller.

use millrace_domain::{AttemptId, AttemptState, BuildId, Outcome, OutcomeKind, TaskState};
use uuid::Uuid;

use crate::attempts::transition::{AttemptEnd, NextTaskState, end_attempt, lock_attempt, put_back};
use crate::database::Store;
use crate::database::Tx;
use crate::error::StoreError;

/// The most builds that one sweep takes back; the next sweep continues.
const BATCH: i64 = 200;

/// What one sweep took back from pollers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PollerSwept {
    /// Builds that a poller had claimed, with that poller's name; some had been reported as started.
    pub returned: Vec<(BuildId, String)>,
    /// Number of builds that were routed to a poller and never listed to it.
    pub rerouted: u64,
    /// Whether successes wait until their results were verified.
    pub to_verify: bool,
}

/// One statement that says whether there is anything to do, since mostly there is not.
const ANYTHING_DUE: &str = "
    select exists (select from attempts a where a.state = 'claimed' and a.poller_id is not null and a.lease_until < now()),
        exists (select from legacy_pollers p cross join lateral (
            select from builds b where b.poller_id = p.id and b.cancelled_at is null and b.first_claim_at is null limit 1) b
            where p.alive_until < now()),
        exists (select from attempts a where a.state = 'claimed' and a.poller_check_at <= now())";

/// Builds with an attempt of a poller whose lease ran out, with the poller's name.
const EXPIRED: &str = "
    select t.build_id, min(p.name)
    from attempts a join tasks t on t.id = a.task_id and t.current_attempt = a.id
        join legacy_pollers p on p.id = a.poller_id
    where a.state = 'claimed' and a.poller_id is not null and a.lease_until < now()
    group by t.build_id order by t.build_id limit $1";

/// Unclaimed builds that are routed to pollers which stopped polling.
const UNLISTED: &str = "
    select b.id from legacy_pollers p join builds b on b.poller_id = p.id
    where p.alive_until < now() and b.cancelled_at is null and b.first_claim_at is null
    order by b.id limit $1";

/// Moves unclaimed tasks of these builds to the queue; the caller has locked the tasks.
const MOVE_TO_QUEUE: &str = "
    with freed as (
        update tasks t set held = null, delayed = t.not_before > now()
        where t.build_id = any($1) and t.state = 'waiting' and t.current_attempt is null and t.held = 'poller'
        returning t.build_id
    )
    update builds b set poller_id = null where b.id in (select build_id from freed)";

impl Store {
    /// Takes back builds whose leases pollers do not renew. Called each second, after [`Store::sweep`], which extends all leases
    /// after an outage.
    pub async fn sweep_pollers(&self) -> Result<PollerSwept, StoreError> {
        let (expired, unlisted, to_verify): (bool, bool, bool) = self
            .within(async { Ok(sqlx::query_as(ANYTHING_DUE).fetch_one(&self.pool).await?) })
            .await?;
        let mut swept = PollerSwept {
            to_verify,
            ..PollerSwept::default()
        };
        if expired {
            swept.returned = self.take_expired().await?;
        }
        if unlisted {
            swept.rerouted = self.within(self.reroute()).await?;
        }
        Ok(swept)
    }

    async fn take_expired(&self) -> Result<Vec<(BuildId, String)>, StoreError> {
        let expired: Vec<(i64, String)> = self
            .within(async {
                let found = sqlx::query_as(EXPIRED)
                    .bind(BATCH)
                    .fetch_all(&self.pool)
                    .await?;
                Ok(found)
            })
            .await?;
        let mut returned = Vec::new();
        for (build, poller) in expired {
            if self.within(self.take_from_poller(build, &poller)).await? {
                returned.push((BuildId(build), poller));
            }
        }
        Ok(returned)
    }

    async fn take_from_poller(&self, build: i64, poller: &str) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        lock_tasks(&mut tx, &[build]).await?;
        let attempts: Vec<Uuid> = sqlx::query_scalar(
            "select a.id from attempts a join tasks t on t.id = a.task_id and t.current_attempt = a.id
             where t.build_id = $1 and a.state = 'claimed' and a.poller_id is not null and a.lease_until < now()
             order by a.id for no key update of a",
        )
        .bind(build)
        .fetch_all(&mut *tx)
        .await?;
        if attempts.is_empty() {
            return Ok(false);
        }
        for attempt in attempts {
            expire_attempt(&mut tx, AttemptId(attempt), poller).await?;
        }
        sqlx::query(MOVE_TO_QUEUE)
            .bind([build].as_slice())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn reroute(&self) -> Result<u64, StoreError> {
        let found: Vec<i64> = sqlx::query_scalar(UNLISTED)
            .bind(BATCH)
            .fetch_all(&self.pool)
            .await?;
        if found.is_empty() {
            return Ok(0);
        }
        let mut tx = self.begin().await?;
        lock_tasks(&mut tx, &found).await?;
        // A poller may have polled meanwhile: then it keeps its builds.
        let still: Vec<i64> = sqlx::query_scalar(
            "select b.id from builds b join legacy_pollers p on p.id = b.poller_id
             where b.id = any($1) and p.alive_until < now() and b.first_claim_at is null",
        )
        .bind(&found)
        .fetch_all(&mut *tx)
        .await?;
        let moved = sqlx::query(MOVE_TO_QUEUE)
            .bind(&still)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(moved.rows_affected())
    }
}

async fn lock_tasks(tx: &mut Tx, builds: &[i64]) -> Result<(), StoreError> {
    sqlx::query("select id from tasks where build_id = any($1) order by id for no key update")
        .bind(builds)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Ends one attempt of a poller: uncounted if the poller never started it, as lost if it did.
async fn expire_attempt(tx: &mut Tx, attempt: AttemptId, poller: &str) -> Result<(), StoreError> {
    let Some(locked) = lock_attempt(tx, attempt).await? else {
        return Ok(());
    };
    if locked.task_state == TaskState::Queued {
        return put_back(tx, &locked, "its poller was not heard of", 0).await;
    }
    let message = format!("poller {poller} began it and did not report its end in time");
    let outcome = Outcome::new(OutcomeKind::BuilderLost, message);
    let end = AttemptEnd {
        state: AttemptState::Lost,
        reason: Some("its poller's time ran out"),
        outcome: Some(&outcome),
    };
    end_attempt(tx, &locked, end, &NextTaskState::after(&locked, &outcome)).await
}
