//! Ends a poller's attempt: by its report, once a success was verified, or because the build was cancelled.

use chrono::Utc;
use millrace_domain::{
    AttemptId, AttemptState, BuildId, ChrootName, FileName, Outcome, OutcomeKind, SourceUrl, TaskId,
};
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::attempts::transition::{AttemptEnd, NextTaskState, end_attempt, lock_attempt};
use crate::database::Store;
use crate::database::Tx;
use crate::error::StoreError;
use crate::legacy::types::{PollerReport, time};
use crate::row::{RowOf, Time, int4};

/// Lease of an attempt whose reported success is being verified, in seconds.
const VERIFY_SECONDS: i32 = 1800;

/// A success that a poller reported and whose results were not verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedSuccess {
    /// The attempt that waits for the verification.
    pub attempt_id: AttemptId,
    /// The task that ends with it.
    pub task_id: TaskId,
    /// The chroot, which is a part of the address of the results.
    pub chroot: ChrootName,
    /// Address of the results as the poller reported it; none if it reported none.
    pub results: Option<SourceUrl>,
    /// Source packages of the build, in order; each has a folder in the results.
    pub sources: Vec<FileName>,
    /// Seconds since the report.
    pub age_seconds: u32,
}

#[derive(FromRow)]
struct UnverifiedColumns {
    id: Uuid,
    task_id: i64,
    chroot: String,
    results_url: Option<String>,
    sources: Vec<String>,
    age_seconds: i32,
}

impl Store {
    /// Leases reported successes to the caller for `seconds`, so that one frontend verifies each; the longest due first.
    pub async fn take_unverified(
        &self,
        limit: u32,
        seconds: u32,
    ) -> Result<Vec<UnverifiedSuccess>, StoreError> {
        self.within(async {
            let rows: Vec<UnverifiedColumns> = sqlx::query_as(
                "with due as (
                    -- Locks what is due; another frontend skips it. Index attempts_to_believe.
                    select id from attempts where state = 'claimed' and poller_check_at <= now()
                    order by poller_check_at limit $1 for no key update skip locked
                ), taken as (
                    -- The next look by anybody is after the lease.
                    update attempts a set poller_check_at = now() + $2 * interval '1 second'
                    from due where a.id = due.id and a.state = 'claimed'
                    returning a.id, a.task_id, (a.poller_report->>'at')::float8 as at
                )
                select x.id, x.task_id, t.chroot, b.results_url,
                    array(select s.name from sources s where s.build_id = b.id order by s.position) as sources,
                    greatest(0, extract(epoch from now()) - x.at)::integer as age_seconds
                from taken x join tasks t on t.id = x.task_id join builds b on b.id = t.build_id order by x.id",
            )
            .bind(i64::from(limit))
            .bind(int4(seconds))
            .fetch_all(&self.pool)
            .await?;
            rows.iter().map(unverified_success).collect()
        })
        .await
    }

    /// Ends a poller's attempt with the outcome of the verification; false when something else has ended it.
    pub async fn finish_verified(
        &self,
        attempt: AttemptId,
        outcome: &Outcome,
    ) -> Result<bool, StoreError> {
        self.within(async {
            let mut tx = self.begin().await?;
            let Some(locked) = lock_attempt(&mut tx, attempt).await? else {
                return Ok(false);
            };
            let reported: Option<Option<i64>> = sqlx::query_scalar(
                "select (poller_report->>'ended_on')::bigint from attempts
                 where id = $1 and state = 'claimed' and poller_report is not null",
            )
            .bind(attempt.0)
            .fetch_optional(&mut *tx)
            .await?;
            let Some(ended_on) = reported.filter(|_| locked.is_current) else {
                return Ok(false);
            };
            finish(&mut tx, attempt, outcome, ended_on.map(time)).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }
}

fn unverified_success(columns: &UnverifiedColumns) -> Result<UnverifiedSuccess, StoreError> {
    let row = RowOf::new("attempts", columns.id);
    Ok(UnverifiedSuccess {
        attempt_id: AttemptId(columns.id),
        task_id: TaskId(columns.task_id),
        chroot: row.parse(&columns.chroot)?,
        results: row.parse_some(columns.results_url.as_deref())?,
        sources: row.parse_all(&columns.sources)?,
        age_seconds: row.number(columns.age_seconds)?,
    })
}

/// Stores a reported success until it was verified. The caller has locked the attempt.
pub(super) async fn record_success(
    tx: &mut Tx,
    attempt: AttemptId,
    entry: &PollerReport,
) -> Result<(), StoreError> {
    sqlx::query(
        "with reported as (
            update attempts set phase = 'reported', poller_check_at = now(),
                poller_report = jsonb_build_object('ended_on', $2::bigint, 'at', extract(epoch from now())),
                lease_until = greatest(lease_until, now() + $3 * interval '1 second')
            where id = $1 and state = 'claimed' returning id
        )
        -- The report of its start may have been lost.
        update tasks t set state = 'running', started_at = coalesce(t.started_at, now())
        from reported where t.current_attempt = reported.id and t.state = 'queued'",
    )
    .bind(attempt.0)
    .bind(entry.ended_on)
    .bind(VERIFY_SECONDS)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Ends a poller's live attempt with its task, at the time that the poller named; returns the task if that ended it.
pub(super) async fn finish(
    tx: &mut Tx,
    attempt: AttemptId,
    outcome: &Outcome,
    ended_at: Option<Time>,
) -> Result<Option<TaskId>, StoreError> {
    let Some(locked) = lock_attempt(tx, attempt).await? else {
        return Ok(None);
    };
    if locked.attempt_state != AttemptState::Claimed || !locked.is_current {
        return Ok(None);
    }
    sqlx::query(
        "insert into attempt_packages (attempt_id, position, source, outcome)
         select $1, s.position, s.name, $2
         from attempts a join tasks t on t.id = a.task_id join sources s on s.build_id = t.build_id where a.id = $1",
    )
    .bind(attempt.0)
    .bind(Json(outcome))
    .execute(&mut **tx)
    .await?;
    let end = AttemptEnd {
        state: AttemptState::Finished,
        reason: None,
        outcome: Some(outcome),
    };
    let next = NextTaskState::after(&locked, outcome);
    end_attempt(tx, &locked, end, &next).await?;
    // The poller's clock may be wrong, but an end is never before its start, nor to come.
    sqlx::query(
        "update tasks set started_at = coalesce(started_at, now()),
             ended_at = greatest(least($2, now()), coalesce(started_at, now()))
         where id = $1 and state = $3",
    )
    .bind(locked.task_id)
    .bind(ended_at.unwrap_or_else(Utc::now))
    .bind(next.task_state().as_str())
    .execute(&mut **tx)
    .await?;
    Ok(Some(TaskId(locked.task_id)))
}

/// Ends the attempts that pollers have of a cancelled build, whose tasks the caller has locked. The protocol of 2012 cannot ask a
/// poller to stop, so its later reports are ignored.
pub(crate) async fn cancel_with_poller(tx: &mut Tx, build: BuildId) -> Result<(), StoreError> {
    let attempts: Vec<Uuid> = sqlx::query_scalar(
        "select a.id from attempts a join tasks t on t.id = a.task_id and t.current_attempt = a.id
         where t.build_id = $1 and t.state = 'running' and a.state = 'claimed' and a.poller_id is not null order by a.id",
    )
    .bind(build.0)
    .fetch_all(&mut **tx)
    .await?;
    for attempt in attempts {
        let Some(locked) = lock_attempt(tx, AttemptId(attempt)).await? else {
            continue;
        };
        let outcome = Outcome::new(
            OutcomeKind::Cancelled,
            "cancelled on request; the poller that had it was not asked",
        );
        let end = AttemptEnd {
            state: AttemptState::Revoked,
            reason: Some("the build was cancelled"),
            outcome: None,
        };
        end_attempt(tx, &locked, end, &NextTaskState::after(&locked, &outcome)).await?;
    }
    Ok(())
}
