//! Cancelling: what no builder has is over at once, what runs is told to stop, and what a silent builder has is taken
//! back.

use millrace_domain::{AttemptId, BuildId, BuildState, BuilderId, Outcome, OutcomeKind, TaskState};
use sqlx::types::Json;
use uuid::Uuid;

use crate::attempts::revoke_silent::revoke_silent_of;
use crate::database::Store;
use crate::database::Tx;
use crate::error::StoreError;
use crate::legacy::finish::cancel_with_poller;
use crate::row::RowOf;

/// What became of a wish to cancel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelResult {
    /// Nothing of the build starts any more; what runs is asked to stop.
    Cancelled {
        /// Who to hint at what; their next heartbeat tells them anyway.
        hints: Vec<(BuilderId, AttemptId)>,
        /// Those of them that were taken back at once, because their builders are not heard of.
        revoked: Vec<AttemptId>,
    },
    /// The build was over before.
    AlreadyFinished(BuildState),
    /// There is no such build.
    Unknown,
}

impl Store {
    /// Cancels what is left of a build. A builder not heard of for `silent_seconds` is not waited for. A repeat is
    /// harmless and hints again.
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

async fn end_unclaimed(tx: &mut Tx, id: BuildId) -> Result<(), StoreError> {
    let outcome = Outcome::new(
        OutcomeKind::Cancelled,
        "cancelled on request, before a builder had it",
    );
    sqlx::query(
        "with offers as (
            select a.id from attempts a join tasks t on t.id = a.task_id
            where t.build_id = $1 and t.state in ('waiting', 'queued') and a.state in ('offered', 'claimed')
            order by a.id for no key update of a
        ), revoked as (
            update attempts a set state = 'revoked', reason = 'the build was cancelled', ended_at = now()
            from offers where a.id = offers.id and a.state in ('offered', 'claimed')
        ), unpublished as (
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
