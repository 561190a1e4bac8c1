//! Packages that earlier attempts of a task finished: the next attempt reuses them instead of building them again.

use std::collections::HashMap;

use millrace_domain::{AttemptId, Outcome, TaskId};
use serde::Deserialize;
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::builds::views::FileView;
use crate::database::Tx;
use crate::error::StoreError;
use crate::row::RowOf;

/// A package that an earlier attempt finished.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishedEarlier {
    /// Position of its source within the build, from 0.
    pub position: u32,
    /// The attempt that built it and has its files.
    pub attempt_id: AttemptId,
    /// How it ended: succeeded or skipped.
    pub outcome: Outcome,
    /// Its files in the result store.
    pub files: Vec<FileView>,
}

#[derive(FromRow)]
struct Columns {
    task_id: i64,
    position: i32,
    attempt_id: Uuid,
    outcome: Json<Outcome>,
    files: Json<Vec<File>>,
}

#[derive(Deserialize)]
struct File {
    name: String,
    size: u64,
    sha256: String,
}

/// Reads the finished packages of tasks that had attempts before. Where several attempts finished a package the last one
/// counts.
pub(crate) async fn finished_before(
    tx: &mut Tx,
    tasks: &[i64],
) -> Result<HashMap<TaskId, Vec<FinishedEarlier>>, StoreError> {
    if tasks.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<Columns> = sqlx::query_as(
        "select distinct on (a.task_id, p.position) a.task_id, p.position, a.id as attempt_id, p.outcome,
             coalesce((select jsonb_agg(jsonb_build_object('name', f.name, 'size', f.size, 'sha256', f.sha256)
                     order by f.name)
                 from result_files f where f.attempt_id = a.id and f.position = p.position), '[]') as files
         from attempts a join attempt_packages p on p.attempt_id = a.id
         where a.task_id = any($1) and a.state = 'finished' and p.outcome ->> 'kind' in ('succeeded', 'skipped')
         order by a.task_id, p.position, a.number desc",
    )
    .bind(tasks)
    .fetch_all(&mut **tx)
    .await?;
    let mut found: HashMap<TaskId, Vec<FinishedEarlier>> = HashMap::new();
    for columns in rows {
        let task = TaskId(columns.task_id);
        found.entry(task).or_default().push(package(columns)?);
    }
    Ok(found)
}

fn package(columns: Columns) -> Result<FinishedEarlier, StoreError> {
    let row = RowOf::new("attempt_packages", columns.attempt_id);
    let files: Result<Vec<FileView>, StoreError> = columns
        .files
        .0
        .into_iter()
        .map(|file| {
            Ok(FileView {
                name: row.parse(&file.name)?,
                size: file.size,
                sha256: file.sha256,
            })
        })
        .collect();
    Ok(FinishedEarlier {
        position: row.number(columns.position)?,
        attempt_id: AttemptId(columns.attempt_id),
        outcome: columns.outcome.0,
        files: files?,
    })
}
