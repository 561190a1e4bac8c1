//! A task that hit a limit is released once more with a larger one, where its project allows it.

use millrace_domain::{Limit, LimitName, OutcomeKind};
use sqlx::types::Json;

use crate::attempts::transition::{Locked, NextTaskState};
use crate::database::Tx;
use crate::error::StoreError;
use crate::row::{RowOf, int4};

/// The larger limit that an outcome asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raise {
    /// The limit, within the operator's bounds.
    pub limit: Limit,
    /// The task's class of memory from then on, where memory is what is raised.
    pub memory_class: Option<String>,
}

/// Whether a larger limit may help.
pub fn may_be_raised(kind: OutcomeKind) -> bool {
    matches!(
        kind,
        OutcomeKind::OutOfMemory | OutcomeKind::TimedOut | OutcomeKind::DiskFull
    )
}

/// What becomes of a task that hit a limit; nothing where it is not raised: it was before, its project does not wish
/// it, it is being cancelled, or no builder that takes work has so much memory.
pub(crate) async fn raise(
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
    note(tx, task, raise, memory).await?;
    Ok(Some(NextTaskState::Raised))
}

/// The task's state moves with its attempt's end; this is only what it has from then on.
async fn note(
    tx: &mut Tx,
    task: &Locked,
    raise: &Raise,
    memory: Option<i32>,
) -> Result<(), StoreError> {
    let noted = sqlx::query(
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
    if noted.rows_affected() == 1 {
        Ok(())
    } else {
        Err(StoreError::inconsistent(
            "tasks",
            task.task_id.to_string(),
            "its limit could not be raised under its lock".to_owned(),
        ))
    }
}
