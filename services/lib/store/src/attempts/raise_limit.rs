//! Raising a limit: a task that hit one is retried once with a larger one, where its project allows it.

use millrace_domain::{Limit, LimitName, OutcomeKind};
use sqlx::types::Json;

use crate::attempts::transition::{Locked, NextTaskState};
use crate::database::Tx;
use crate::error::StoreError;
use crate::row::{RowOf, int4};

/// The larger limit with which a task may be retried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raise {
    /// The limit, within the operator's bounds.
    pub limit: Limit,
    /// The task's memory class with this limit; none when another limit than memory is raised.
    pub memory_class: Option<String>,
}

/// Whether a larger limit may lead to another outcome.
pub fn may_be_raised(kind: OutcomeKind) -> bool {
    match kind {
        OutcomeKind::OutOfMemory | OutcomeKind::TimedOut | OutcomeKind::DiskFull => true,
        OutcomeKind::Silent
        | OutcomeKind::LogTooLarge
        | OutcomeKind::Succeeded
        | OutcomeKind::BuildFailed
        | OutcomeKind::DependencyFailed
        | OutcomeKind::SourceFailed
        | OutcomeKind::Skipped
        | OutcomeKind::Cancelled
        | OutcomeKind::BuilderLost
        | OutcomeKind::BuilderDiskFull
        | OutcomeKind::SandboxFailed
        | OutcomeKind::RepositoryUnreachable
        | OutcomeKind::InternalError => false,
    }
}

/// Raises the limit of a locked task and returns its next state; none where the task is not raised: it was before, its
/// project does not allow it, it is being cancelled, or no builder that takes work has that much memory.
pub(crate) async fn raise_limit(
    tx: &mut Tx,
    task: &Locked,
    raise: Option<&Raise>,
) -> Result<Option<NextTaskState>, StoreError> {
    let Some(raise) = raise.filter(|_| !task.cancel_requested) else {
        return Ok(None);
    };
    let row = RowOf::new("tasks", task.task_id);
    let value: u32 = row.number(raise.limit.value)?;
    let memory = (raise.limit.name == LimitName::Memory).then(|| int4(value));
    let may: bool = sqlx::query_scalar(
        "select p.auto_raise and t.raised_limit is null and ($2::integer is null or exists (
             select from ready_builders r where t.arch = any(r.archs) and r.memory_mib >= $2))
         from tasks t join builds b on b.id = t.build_id join projects p on p.id = b.project_id
         where t.id = $1",
    )
    .bind(task.task_id)
    .bind(memory)
    .fetch_one(&mut **tx)
    .await?;
    if !may {
        return Ok(None);
    }
    if let Some(class) = &raise.memory_class {
        sqlx::query(
            "insert into routes (arch, memory_class) select arch, $2 from tasks where id = $1
             on conflict do nothing",
        )
        .bind(task.task_id)
        .bind(class)
        .execute(&mut **tx)
        .await?;
    }
    record_raised_limit(tx, task, raise, memory).await?;
    Ok(Some(NextTaskState::Raised))
}

/// Stores the task's limit, memory and memory class from now on. Its state changes afterwards, with the attempt's end.
async fn record_raised_limit(
    tx: &mut Tx,
    task: &Locked,
    raise: &Raise,
    memory: Option<i32>,
) -> Result<(), StoreError> {
    let updated = sqlx::query(
        "update tasks set raised_limit = $2, memory_mib = coalesce($3, memory_mib),
             memory_class = coalesce($4, memory_class)
         where id = $1 and state = $5 and raised_limit is null",
    )
    .bind(task.task_id)
    .bind(Json(&raise.limit))
    .bind(memory)
    .bind(&raise.memory_class)
    .bind(task.task_state.as_str())
    .execute(&mut **tx)
    .await?;
    if updated.rows_affected() == 1 {
        Ok(())
    } else {
        Err(StoreError::inconsistent(
            "tasks",
            task.task_id.to_string(),
            "its limit could not be raised under its lock".to_owned(),
        ))
    }
}
