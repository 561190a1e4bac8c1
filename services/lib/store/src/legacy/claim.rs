//! Polling in execute mode: a GET of the list is the claim. The list begins with the builds that the poller has claimed and
//! not started; the rest of the limit is filled with builds that are routed to it. A claim takes a build as a whole, with one
//! conditional update; polling renews the lease until the build is started.

use millrace_domain::{AttemptId, PollerId};
use uuid::Uuid;

use crate::database::Store;
use crate::database::Tx;
use crate::error::StoreError;
use crate::legacy::list::{LegacyBuild, builds_by_id};
use crate::row::int4;

/// A GET of a poller's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetch {
    /// The poller that sent the request.
    pub poller: PollerId,
    /// The most builds in the answer.
    pub limit: u32,
    /// Lease in seconds of builds that it has not started; each GET renews it.
    pub silence_seconds: u32,
}

/// The oldest builds that are routed to the poller and not claimed; index `builds_of_poller`.
const OFFERS: &str = "
    select b.id from builds b
    where b.poller_id = $1 and b.cancelled_at is null and b.first_claim_at is null
    order by b.submitted_at, b.id limit $2";

/// Builds that the poller has claimed and not started, oldest first.
const NOT_STARTED: &str = "
    select b.id from (
        select distinct t.build_id from attempts a join tasks t on t.id = a.task_id and t.current_attempt = a.id
        where a.poller_id = $1 and a.state = 'claimed' and t.state = 'queued'
    ) o join builds b on b.id = o.build_id
    order by b.submitted_at, b.id limit $2";

/// Locks the unclaimed tasks of these builds. When another GET of this poller, a cancel, or the sweeper was faster, the rows
/// do not match any more and are left out.
const LOCK: &str = "
    select t.id from tasks t
    where t.build_id = any($1) and t.state = 'waiting' and t.current_attempt is null and t.held = 'poller'
    order by t.id for no key update";

/// Creates an attempt for each locked task and counts the builds.
const CLAIM: &str = "
    with new as (
        -- The ids that the caller made, one per task.
        select * from unnest($2::bigint[], $3::uuid[]) as n(task_id, attempt_id)
    ), taken as (
        -- Guarded: the tasks are locked, and still unclaimed or not touched.
        update tasks t set state = 'queued', current_attempt = new.attempt_id, attempts_made = t.attempts_made + 1
        from new
        where t.id = new.task_id and t.state = 'waiting' and t.current_attempt is null and t.held = 'poller'
        returning t.id, t.build_id, t.current_attempt, t.attempts_made, t.memory_mib
    ), made as (
        -- A poller's attempt is born claimed; it has no offer and no outbox row.
        insert into attempts (id, task_id, number, memory_mib, state, poller_id, claimed_at, lease_until)
        select current_attempt, id, attempts_made, memory_mib, 'claimed', $1, now(), now() + $4 * interval '1 second'
        from taken
    ), noted as (
        -- Takes the build out of the list of observers.
        update builds b set first_claim_at = now()
        where b.id in (select build_id from taken) and b.first_claim_at is null
    )
    select count(distinct build_id) from taken";

/// Renews the leases of builds that the poller has not started.
const RENEW: &str = "
    with not_started as (
        select a.id from attempts a join tasks t on t.id = a.task_id and t.current_attempt = a.id
        where a.poller_id = $1 and a.state = 'claimed' and t.state = 'queued'
        order by a.id for no key update of a
    )
    update attempts a set lease_until = greatest(a.lease_until, now() + $2 * interval '1 second')
    from not_started where a.id = not_started.id and a.state = 'claimed'";

impl Store {
    /// The poller's list, whose builds it holds from now on, and the number of builds that it claimed by this call.
    pub async fn fetch_for_poller(
        &self,
        fetch: &Fetch,
    ) -> Result<(Vec<LegacyBuild>, u64), StoreError> {
        self.within(async {
            let mut tx = self.begin().await?;
            let not_started = ids(&mut tx, NOT_STARTED, fetch.poller, fetch.limit).await?;
            let left = fetch.limit.saturating_sub(count(&not_started));
            let claimed = if left > 0 {
                claim(&mut tx, fetch, left).await?
            } else {
                0
            };
            sqlx::query(RENEW)
                .bind(fetch.poller.0)
                .bind(int4(fetch.silence_seconds))
                .execute(&mut *tx)
                .await?;
            let listed = ids(&mut tx, NOT_STARTED, fetch.poller, fetch.limit).await?;
            note_fetch(&mut tx, fetch, &listed).await?;
            let builds = builds_by_id(&mut tx, &listed).await?;
            tx.commit().await?;
            Ok((builds, claimed))
        })
        .await
    }

    /// The list that a GET would return now; nothing is claimed, renewed or recorded.
    pub async fn peek_for_poller(
        &self,
        poller: PollerId,
        limit: u32,
    ) -> Result<Vec<LegacyBuild>, StoreError> {
        self.within(async {
            let mut tx = self.snapshot().await?;
            let mut listed = ids(&mut tx, NOT_STARTED, poller, limit).await?;
            let left = limit.saturating_sub(count(&listed));
            let mut offers = ids(&mut tx, OFFERS, poller, left).await?;
            listed.append(&mut offers);
            let builds = builds_by_id(&mut tx, &listed).await?;
            tx.commit().await?;
            Ok(builds)
        })
        .await
    }

    /// Records the list that an observing poller was given.
    pub async fn note_observed(&self, fetch: &Fetch, listed: &[i64]) -> Result<(), StoreError> {
        self.within(async {
            let mut tx = self.begin().await?;
            note_fetch(&mut tx, fetch, listed).await?;
            tx.commit().await?;
            Ok(())
        })
        .await
    }
}

/// Claims up to `limit` builds and returns their number.
async fn claim(tx: &mut Tx, fetch: &Fetch, limit: u32) -> Result<u64, StoreError> {
    let offers = ids(tx, OFFERS, fetch.poller, limit).await?;
    if offers.is_empty() {
        return Ok(0);
    }
    let tasks: Vec<i64> = sqlx::query_scalar(LOCK)
        .bind(&offers)
        .fetch_all(&mut **tx)
        .await?;
    let attempts: Vec<Uuid> = tasks.iter().map(|_| AttemptId::generate().0).collect();
    let builds: i64 = sqlx::query_scalar(CLAIM)
        .bind(fetch.poller.0)
        .bind(&tasks)
        .bind(&attempts)
        .bind(int4(fetch.silence_seconds))
        .fetch_one(&mut **tx)
        .await?;
    Ok(builds.unsigned_abs())
}

async fn ids(
    tx: &mut Tx,
    statement: &'static str,
    poller: PollerId,
    limit: u32,
) -> Result<Vec<i64>, StoreError> {
    let found = sqlx::query_scalar(statement)
        .bind(poller.0)
        .bind(i64::from(limit))
        .fetch_all(&mut **tx)
        .await?;
    Ok(found)
}

fn count(ids: &[i64]) -> u32 {
    u32::try_from(ids.len()).unwrap_or(u32::MAX)
}

async fn note_fetch(tx: &mut Tx, fetch: &Fetch, listed: &[i64]) -> Result<(), StoreError> {
    sqlx::query(
        "update legacy_pollers set fetched_at = now(), fetched = $2,
             alive_until = greatest(alive_until, now() + $3 * interval '1 second')
         where id = $1 and removed_at is null",
    )
    .bind(fetch.poller.0)
    .bind(listed)
    .bind(int4(fetch.silence_seconds))
    .execute(&mut **tx)
    .await?;
    Ok(())
}
