//! How a poller's attempt ends: by its report, once that is believed, or because the build was cancelled.

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
use crate::legacy::report::{PollerReport, time};
use crate::row::{RowOf, Time, int4};

/// While a success is looked into, the attempt stays the poller's at least so long.
const LOOK_SECONDS: i32 = 1800;

/// A success that a poller reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedSuccess {
    /// The attempt.
    pub attempt_id: AttemptId,
    /// Its task.
    pub task_id: TaskId,
    /// Where it was built.
    pub chroot: ChrootName,
    /// Where the poller says that the results are.
    pub results: Option<SourceUrl>,
    /// What was built, in order.
    pub sources: Vec<FileName>,
    /// How long ago it was reported, in seconds.
    pub age_seconds: u32,
}

#[derive(FromRow)]
struct BelieveColumns {
    id: Uuid,
    task_id: i64,
    chroot: String,
    results_url: Option<String>,
    sources: Vec<String>,
    age_seconds: i32,
}

impl Store {
    /// Successes whose results are to be looked for now; they are the caller's for so many seconds.
    pub async fn take_unverified(
        &self,
        limit: u32,
        seconds: u32,
    ) -> Result<Vec<UnverifiedSuccess>, StoreError> {
        self.within(async {
            let rows: Vec<BelieveColumns> = sqlx::query_as(
                "with due as (
                    select id from attempts where state = 'claimed' and poller_check_at <= now()
                    order by poller_check_at limit $1 for no key update skip locked
                ), taken as (
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
            rows.iter().map(to_believe).collect()
        })
        .await
    }

    /// Ends a poller's attempt whose success was looked into; false when something else has ended it.
    pub async fn settle_believed(
        &self,
        attempt: AttemptId,
        outcome: &Outcome,
    ) -> Result<bool, StoreError> {
        self.within(async {
            let mut tx = self.begin().await?;
            let Some(locked) = lock_attempt(&mut tx, attempt).await? else {
                return Ok(false);
            };
            let told: Option<Option<i64>> = sqlx::query_scalar(
                "select (poller_report->>'ended_on')::bigint from attempts
                 where id = $1 and state = 'claimed' and poller_report is not null",
            )
            .bind(attempt.0)
            .fetch_optional(&mut *tx)
            .await?;
            let Some(ended_on) = told.filter(|_| locked.is_current) else {
                return Ok(false);
            };
            finish(&mut tx, attempt, outcome, ended_on.map(time)).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }
}

fn to_believe(columns: &BelieveColumns) -> Result<UnverifiedSuccess, StoreError> {
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

/// Keeps a reported success until it is believed. The attempt is locked.
pub(super) async fn record_success(
    tx: &mut Tx,
    attempt: AttemptId,
    entry: &PollerReport,
) -> Result<(), StoreError> {
    sqlx::query(
        "with told as (
            update attempts set phase = 'reported', poller_check_at = now(),
                poller_report = jsonb_build_object('ended_on', $2::bigint, 'at', extract(epoch from now())),
                lease_until = greatest(lease_until, now() + $3 * interval '1 second')
            where id = $1 and state = 'claimed' returning id
        )
        -- The report of its start may have been lost.
        update tasks t set state = 'running', started_at = coalesce(t.started_at, now())
        from told where t.current_attempt = told.id and t.state = 'queued'",
    )
    .bind(attempt.0)
    .bind(entry.ended_on)
    .bind(LOOK_SECONDS)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Ends a poller's live attempt with its task, at the time that it named; the task, if it is over with it.
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

/// Ends what pollers have of a cancelled build whose tasks are locked: nobody can tell a poller to stop, so what it says
/// from now on is ignored.
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
