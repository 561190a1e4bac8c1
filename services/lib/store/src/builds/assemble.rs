//! Assembles [`BuildView`]s with their tasks, attempts, packages and files: six queries per page, whatever its size.

use std::collections::HashMap;

use millrace_domain::{
    AttemptId, BuildId, BuilderId, Limit, Limits, Outcome, ProjectId, StageTime, TaskId,
};
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::builds::views::{
    AttemptLimits, AttemptView, BuildView, BuilderRef, FileView, PackageView, SourcePlace,
    SourceView, TaskView,
};
use crate::database::Tx;
use crate::error::StoreError;
use crate::row::{RowOf, Time};

#[derive(FromRow)]
pub(crate) struct BuildColumns {
    id: i64,
    owner: String,
    project: String,
    project_id: i64,
    submitter: String,
    chroots: Vec<String>,
    repositories: Vec<String>,
    memory_mib: i32,
    timeout_seconds: i32,
    disk_mib: Option<i32>,
    priority: i16,
    submitted_at: Time,
    cancelled_at: Option<Time>,
    resubmit_of: Option<i64>,
}

#[derive(FromRow)]
pub(crate) struct TaskColumns {
    id: i64,
    build_id: i64,
    chroot: String,
    state: String,
    outcome: Option<Json<Outcome>>,
    raised_limit: Option<Json<Limit>>,
    attempts_counted: i32,
    created_at: Time,
    started_at: Option<Time>,
    ended_at: Option<Time>,
    cancel_requested_at: Option<Time>,
}

#[derive(FromRow)]
pub(crate) struct AttemptColumns {
    id: Uuid,
    task_id: i64,
    number: i32,
    state: String,
    reason: Option<String>,
    builder_id: Option<Uuid>,
    builder_name: Option<String>,
    poller: Option<String>,
    phase: Option<String>,
    stage: Option<String>,
    stages: Json<Vec<StageTime>>,
    waits_for: Option<String>,
    outcome: Option<Json<Outcome>>,
    log_size: i64,
    image_digest: Option<String>,
    image_baked_at: Option<Time>,
    memory_mib: i32,
    timeout_seconds: Option<i32>,
    disk_mib: Option<i32>,
    offered_at: Time,
    claimed_at: Option<Time>,
    ended_at: Option<Time>,
}

#[derive(FromRow)]
struct SourceColumns {
    build_id: i64,
    position: i32,
    name: String,
    url: Option<String>,
    sha256: Option<String>,
    size: Option<i64>,
}

#[derive(FromRow)]
struct PackageColumns {
    attempt_id: Uuid,
    position: i32,
    source: String,
    outcome: Json<Outcome>,
}

#[derive(FromRow)]
struct FileColumns {
    attempt_id: Uuid,
    position: i32,
    name: String,
    size: i64,
    sha256: String,
}

pub(crate) async fn complete_builds(
    tx: &mut Tx,
    heads: Vec<BuildColumns>,
) -> Result<Vec<BuildView>, StoreError> {
    let ids: Vec<i64> = heads.iter().map(|head| head.id).collect();
    let mut sources = sources_of(tx, &ids).await?;
    let rows = sqlx::query_as("select * from tasks where build_id = any($1) order by id")
        .bind(&ids)
        .fetch_all(&mut **tx)
        .await?;
    let mut tasks: HashMap<BuildId, Vec<TaskView>> = HashMap::new();
    for task in complete_tasks(tx, rows).await? {
        tasks.entry(task.build_id).or_default().push(task);
    }
    let build = |head: BuildColumns| {
        let row = RowOf::new("builds", head.id);
        let id = BuildId(head.id);
        Ok(BuildView {
            id,
            owner: row.parse(&head.owner)?,
            project: row.parse(&head.project)?,
            project_id: ProjectId(head.project_id),
            submitter: row.parse(&head.submitter)?,
            chroots: row.parse_all(&head.chroots)?,
            repositories: row.parse_all(&head.repositories)?,
            limits: Limits {
                memory_mib: row.number(head.memory_mib)?,
                timeout_seconds: row.number(head.timeout_seconds)?,
            },
            disk_mib: head.disk_mib.map(|n| row.number(n)).transpose()?,
            priority: row.priority(head.priority)?,
            submitted_at: head.submitted_at,
            cancelled_at: head.cancelled_at,
            resubmit_of: head.resubmit_of.map(BuildId),
            sources: sources.remove(&id).unwrap_or_default(),
            tasks: tasks.remove(&id).unwrap_or_default(),
        })
    };
    heads.into_iter().map(build).collect()
}

/// Sources of these builds, by build and in order of their positions.
pub(crate) async fn sources_of(
    tx: &mut Tx,
    builds: &[i64],
) -> Result<HashMap<BuildId, Vec<SourceView>>, StoreError> {
    let rows: Vec<SourceColumns> = sqlx::query_as(
        "select build_id, position, name, url, sha256, size from sources
         where build_id = any($1) order by build_id, position",
    )
    .bind(builds)
    .fetch_all(&mut **tx)
    .await?;
    let mut sources: HashMap<BuildId, Vec<SourceView>> = HashMap::new();
    for columns in rows {
        let build_id = BuildId(columns.build_id);
        sources
            .entry(build_id)
            .or_default()
            .push(source_view(columns)?);
    }
    Ok(sources)
}

fn source_view(columns: SourceColumns) -> Result<SourceView, StoreError> {
    let row = RowOf::new(
        "sources",
        format!("{}/{}", columns.build_id, columns.position),
    );
    let place = match (columns.url, columns.sha256, columns.size) {
        (Some(url), None, _) => SourcePlace::Url(row.parse(&url)?),
        (None, Some(sha256), Some(size)) => SourcePlace::Stored {
            sha256,
            size: row.number(size)?,
        },
        _ => {
            return Err(
                row.fault("it must have either a URL, or a digest and a size, but not both")
            );
        }
    };
    Ok(SourceView {
        position: row.number(columns.position)?,
        name: row.parse(&columns.name)?,
        place,
    })
}

pub(crate) async fn complete_tasks(
    tx: &mut Tx,
    rows: Vec<TaskColumns>,
) -> Result<Vec<TaskView>, StoreError> {
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let columns = sqlx::query_as(
        "select a.*, b.name as builder_name, (select p.name from legacy_pollers p where p.id = a.poller_id) as poller
         from attempts a left join builders b on b.id = a.builder_id
         where a.task_id = any($1) order by a.task_id, a.number",
    )
    .bind(&ids)
    .fetch_all(&mut **tx)
    .await?;
    let mut attempts: HashMap<TaskId, Vec<AttemptView>> = HashMap::new();
    for attempt in complete_attempts(tx, columns).await? {
        attempts.entry(attempt.task_id).or_default().push(attempt);
    }
    let task = |columns: TaskColumns| {
        let row = RowOf::new("tasks", columns.id);
        let id = TaskId(columns.id);
        Ok(TaskView {
            id,
            build_id: BuildId(columns.build_id),
            chroot: row.parse(&columns.chroot)?,
            state: row.parse(&columns.state)?,
            outcome: columns.outcome.map(|Json(outcome)| outcome),
            raised_limit: columns.raised_limit.map(|Json(limit)| limit),
            attempts_counted: row.number(columns.attempts_counted)?,
            created_at: columns.created_at,
            started_at: columns.started_at,
            ended_at: columns.ended_at,
            cancel_requested_at: columns.cancel_requested_at,
            attempts: attempts.remove(&id).unwrap_or_default(),
        })
    };
    rows.into_iter().map(task).collect()
}

pub(crate) async fn complete_attempts(
    tx: &mut Tx,
    rows: Vec<AttemptColumns>,
) -> Result<Vec<AttemptView>, StoreError> {
    let finished: Vec<Uuid> = rows
        .iter()
        .filter(|row| row.state == "finished")
        .map(|row| row.id)
        .collect();
    let mut packages = packages_of(tx, &finished).await?;
    let attempt = |columns: AttemptColumns| {
        let row = RowOf::new("attempts", columns.id);
        let builder = columns.builder_id.map(|id| BuilderRef {
            id: BuilderId(id),
            name: columns.builder_name.unwrap_or_default(),
        });
        Ok(AttemptView {
            id: AttemptId(columns.id),
            task_id: TaskId(columns.task_id),
            number: row.number(columns.number)?,
            state: row.parse(&columns.state)?,
            reason: columns.reason,
            builder,
            poller: columns.poller,
            phase: row.parse_some(columns.phase.as_deref())?,
            stage: row.parse_some(columns.stage.as_deref())?,
            stages: columns.stages.0,
            waits_for: columns.waits_for,
            outcome: columns.outcome.map(|Json(outcome)| outcome),
            log_size: row.number(columns.log_size)?,
            image_digest: columns.image_digest,
            image_baked_at: columns.image_baked_at,
            limits: AttemptLimits {
                memory_mib: row.number(columns.memory_mib)?,
                timeout_seconds: columns.timeout_seconds.map(|n| row.number(n)).transpose()?,
                disk_mib: columns.disk_mib.map(|n| row.number(n)).transpose()?,
            },
            offered_at: columns.offered_at,
            claimed_at: columns.claimed_at,
            ended_at: columns.ended_at,
            packages: packages.remove(&columns.id).unwrap_or_default(),
        })
    };
    rows.into_iter().map(attempt).collect()
}

async fn packages_of(
    tx: &mut Tx,
    attempts: &[Uuid],
) -> Result<HashMap<Uuid, Vec<PackageView>>, StoreError> {
    // A build that was just submitted has no attempt: two queries less.
    if attempts.is_empty() {
        return Ok(HashMap::new());
    }
    let mut files: HashMap<(Uuid, i32), Vec<FileView>> = HashMap::new();
    let rows: Vec<FileColumns> = sqlx::query_as(
        "select attempt_id, position, name, size, sha256 from result_files
         where attempt_id = any($1) order by attempt_id, position, name",
    )
    .bind(attempts)
    .fetch_all(&mut **tx)
    .await?;
    for columns in rows {
        let row = RowOf::new(
            "result_files",
            format!("{}/{}", columns.attempt_id, columns.position),
        );
        files
            .entry((columns.attempt_id, columns.position))
            .or_default()
            .push(FileView {
                name: row.parse(&columns.name)?,
                size: row.number(columns.size)?,
                sha256: columns.sha256,
            });
    }
    let rows: Vec<PackageColumns> = sqlx::query_as(
        "select attempt_id, position, source, outcome from attempt_packages
         where attempt_id = any($1) order by attempt_id, position",
    )
    .bind(attempts)
    .fetch_all(&mut **tx)
    .await?;
    let mut packages: HashMap<Uuid, Vec<PackageView>> = HashMap::new();
    for columns in rows {
        let row = RowOf::new("attempt_packages", columns.attempt_id);
        packages
            .entry(columns.attempt_id)
            .or_default()
            .push(PackageView {
                position: row.number(columns.position)?,
                source: row.parse(&columns.source)?,
                outcome: columns.outcome.0,
                files: files
                    .remove(&(columns.attempt_id, columns.position))
                    .unwrap_or_default(),
            });
    }
    Ok(packages)
}
