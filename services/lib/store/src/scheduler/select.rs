//! Locks the tasks that fair-share selection picked and loads what their job messages need.

use std::collections::HashMap;

use millrace_domain::{AttemptId, BuildId, Limit, LimitName, Limits, TaskId};
use sqlx::FromRow;
use sqlx::types::Json;

use crate::attempts::finished_packages::{FinishedEarlier, finished_before};
use crate::builds::assemble::sources_of;
use crate::builds::views::SourceView;
use crate::chroots::ChrootColumns;
use crate::database::Tx;
use crate::error::StoreError;
use crate::row::RowOf;
use crate::scheduler::candidates::Candidates;
use crate::scheduler::cursor::ScanCursor;
use crate::scheduler::fair_share::{Selection, select_fairly};
use crate::scheduler::more_candidates::read_more;
use crate::scheduler::types::ReleasedTask;
use crate::scheduler::window::ReleaseScope;

/// Further reads per release. Each reads a queue at least twice as deep, so this suffices for the largest window.
const MOST_READS: u32 = 8;

#[derive(FromRow)]
struct TaskColumns {
    id: i64,
    build_id: i64,
    attempts_made: i32,
    memory_class: String,
    owner: String,
    project: String,
    repositories: Vec<String>,
    memory_mib: i32,
    timeout_seconds: i32,
    disk_mib: Option<i32>,
    raised_limit: Option<Json<Limit>>,
    #[sqlx(flatten)]
    chroot: ChrootColumns,
}

/// Locks these tasks and reads what their job messages say. A task that another transaction has locked is being
/// cancelled: it is skipped.
const LOCK_TASKS: &str = "
    -- Tasks by primary key, locked in order of id as everywhere where there are several; $1 has the order of release.
    with taken as (
        select t.*, array_position($1::bigint[], t.id) as place from tasks t
        where t.id = any($1) and t.state = 'waiting' and t.current_attempt is null and t.not_before <= now()
        order by t.id
        for no key update of t skip locked
    )
    -- Builds are looked up task by task, by primary key.
    select t.id, t.build_id, t.attempts_made, t.memory_class, o.name as owner, p.name as project,
        b.repositories, b.memory_mib, b.timeout_seconds, b.disk_mib, t.raised_limit,
        c.name, c.arch, c.image, c.mock_root, c.enabled, c.base, c.refresh_asked_at
    from taken t cross join lateral (select b.* from builds b where b.id = t.build_id limit 1) b
        join projects p on p.id = b.project_id
        join accounts o on o.id = p.account_id join chroots c on c.name = t.chroot
    order by t.place";

/// Locks the tasks that are ready by reservation and those that the selection picked, in this order. Also says whether
/// other tasks keep waiting, for room or for their owner's limit.
pub(crate) async fn lock_selected(
    tx: &mut Tx,
    cursor: &ScanCursor,
    scope: &ReleaseScope<'_>,
) -> Result<(Vec<ReleasedTask>, bool), StoreError> {
    let mut ids = scope.ready_ids();
    let mut held_back = false;
    if !scope.windows.is_empty() {
        let selection = select_tasks(tx, cursor, scope).await?;
        ids.extend(selection.tasks);
        held_back = selection.held_back;
    }
    if ids.is_empty() {
        return Ok((Vec::new(), held_back));
    }
    let rows: Vec<TaskColumns> = sqlx::query_as(LOCK_TASKS)
        .bind(ids)
        .fetch_all(&mut **tx)
        .await?;
    let builds: Vec<i64> = rows.iter().map(|row| row.build_id).collect();
    let sources = sources_of(tx, &builds).await?;
    let tried = rows.iter().filter(|row| row.attempts_made > 0);
    let tried: Vec<i64> = tried.map(|row| row.id).collect();
    let mut finished = finished_before(tx, &tried).await?;
    let tasks: Result<Vec<_>, _> = rows
        .into_iter()
        .map(|columns| {
            let finished = finished.remove(&TaskId(columns.id)).unwrap_or_default();
            released_task(columns, &sources, finished)
        })
        .collect();
    Ok((tasks?, held_back))
}

/// Selects from each owner's first candidate, then reads further in the queues that were used up, until that changes
/// nothing any more.
async fn select_tasks(
    tx: &mut Tx,
    cursor: &ScanCursor,
    scope: &ReleaseScope<'_>,
) -> Result<Selection, StoreError> {
    let mut candidates = Candidates::read(tx, cursor, scope).await?;
    let select = |found: &Candidates| select_fairly(scope.windows, &found.queues, &found.owners);
    let mut selection = select(&candidates);
    for _ in 0..MOST_READS {
        if selection.exhausted.is_empty() {
            break;
        }
        read_more(tx, &mut candidates.queues, &selection.exhausted, scope).await?;
        selection = select(&candidates);
    }
    candidates.advance_cursor(cursor, &selection.owners);
    Ok(selection)
}

fn released_task(
    columns: TaskColumns,
    sources: &HashMap<BuildId, Vec<SourceView>>,
    finished: Vec<FinishedEarlier>,
) -> Result<ReleasedTask, StoreError> {
    let row = RowOf::new("tasks", columns.id);
    let build_id = BuildId(columns.build_id);
    let mut limits = Limits {
        memory_mib: row.number(columns.memory_mib)?,
        timeout_seconds: row.number(columns.timeout_seconds)?,
    };
    let mut disk_mib = columns.disk_mib.map(|n| row.number(n)).transpose()?;
    if let Some(Json(raised)) = columns.raised_limit {
        let value = row.number(raised.value)?;
        match raised.name {
            LimitName::Memory => limits.memory_mib = value,
            LimitName::Timeout => limits.timeout_seconds = value,
            LimitName::Disk => disk_mib = Some(value),
            LimitName::Silence | LimitName::Log => {}
        }
    }
    Ok(ReleasedTask {
        attempt_id: AttemptId::generate(),
        attempt_number: row.number(columns.attempts_made.saturating_add(1))?,
        task_id: TaskId(columns.id),
        build_id,
        owner: row.parse(&columns.owner)?,
        project: row.parse(&columns.project)?,
        chroot: columns.chroot.try_into()?,
        memory_class: columns.memory_class,
        sources: sources.get(&build_id).cloned().unwrap_or_default(),
        finished,
        repositories: row.parse_all(&columns.repositories)?,
        limits,
        disk_mib,
    })
}
