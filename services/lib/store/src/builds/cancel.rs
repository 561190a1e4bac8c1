//! Cancelling a build: tasks without a builder end at once, running ones are asked to stop, and attempts of builders that are
//! silent are revoked.

use millrace_domain::{AttemptId, BuildId, BuildState, BuilderId, Outcome, OutcomeKind, TaskState};
use sqlx::types::Json;
use uuid::Uuid;

use crate::attempts::revoke_silent::revoke_silent_of;
use crate::database::Store;
use crate::database::Tx;
use crate::error::StoreError;
use crate::legacy::finish::cancel_with_poller;
use crate::row::RowOf;

/// Answer to a request to cancel a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelResult {
    /// No task of the build starts any more; running ones are asked to stop.
    Cancelled {
        /// Builders to hint at, with their attempts; the answer to their next heartbeat repeats the request.
        hints: Vec<(BuilderId, AttemptId)>,
        /// Attempts that were revoked at once, because their builders are silent.
        revoked: Vec<AttemptId>,
    },
    /// The build had ended before.
    AlreadyFinished(BuildState),
    /// No build has this number.
    Unknown,
}

impl Store {
    /// Cancels the tasks of a build that have not ended. Attempts of builders without a heartbeat for `silent_seconds` are revoked
    /// without waiting for them. A repeat is harmless and returns the hints again.
    pub async fn cancel_build(
        &self,
        id: BuildId,
        silent_seconds: u32,
    ) -> Result<CancelResult, StoreError> {
        self.within(async {
            let mut tx = self.begin().await?;
            let states = lock_tasks(&mut tx, id).await?;
            if states.is_empty() {
                return Ok(CancelResult::Unknown);
            }
            if states.iter().all(|state| state.is_terminal()) {
                return Ok(CancelResult::AlreadyFinished(BuildState::of(states)));
            }
            end_unclaimed(&mut tx, id).await?;
            let hints = ask_running(&mut tx, id).await?;
            let revoked = revoke_silent_of(&mut tx, id, silent_seconds).await?;
            cancel_with_poller(&mut tx, id).await?;
            sqlx::query(
                "update builds set cancelled_at = now() where id = $1 and cancelled_at is null",
            )
            .bind(id.0)
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(CancelResult::Cancelled { hints, revoked })
        })
        .await
    }
}

/// Locks all tasks of the build, in order of their keys, and returns their states.
async fn lock_tasks(tx: &mut Tx, id: BuildId) -> Result<Vec<TaskState>, StoreError> {
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "select id, state from tasks where build_id = $1 order by id for no key update",
    )
    .bind(id.0)
    .fetch_all(&mut **tx)
    .await?;
    rows.iter()
        .map(|(task, state)| RowOf::new("tasks", task).parse(state))
        .collect()
}

/// Ends the tasks that no builder has claimed, and revokes their offers.
async fn end_unclaimed(tx: &mut Tx, id: BuildId) -> Result<(), StoreError> {
    let outcome = Outcome::new(
        OutcomeKind::Cancelled,
        "cancelled on request, before a builder had it",
    );
    sqlx::query(
        "with offers as (
            -- Attempts after tasks: the tasks are locked already.
            select a.id from attempts a join tasks t on t.id = a.task_id
            where t.build_id = $1 and t.state in ('waiting', 'queued') and a.state in ('offered', 'claimed')
            order by a.id for no key update of a
        ), revoked as (
            update attempts a set state = 'revoked', reason = 'the build was cancelled', ended_at = now()
            from offers where a.id = offers.id and a.state in ('offered', 'claimed')
        ), unpublished as (
            -- Orders that were not confirmed yet need not be published any more.
            delete from outbox where attempt_id in (select id from offers)
        )
        update tasks set state = 'cancelled', outcome = $2, ended_at = now(), current_attempt = null
        where build_id = $1 and state in ('waiting', 'queued')",
    )
    .bind(id.0)
    .bind(Json(outcome))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Marks running tasks as cancelled on request, which heartbeats pass on to their builders.
async fn ask_running(tx: &mut Tx, id: BuildId) -> Result<Vec<(BuilderId, AttemptId)>, StoreError> {
    let rows: Vec<(Option<Uuid>, Uuid)> = sqlx::query_as(
        "with asked as (
            update tasks set cancel_requested_at = coalesce(cancel_requested_at, now())
            where build_id = $1 and state = 'running'
            returning current_attempt
        )
        select a.builder_id, a.id from asked join attempts a on a.id = asked.current_attempt",
    )
    .bind(id.0)
    .fetch_all(&mut **tx)
    .await?;
    let hint = |(builder, attempt): (Option<Uuid>, Uuid)| {
        builder.map(|builder| (BuilderId(builder), AttemptId(attempt)))
    };
    Ok(rows.into_iter().filter_map(hint).collect())
}
