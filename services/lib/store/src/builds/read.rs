//! Reads builds, tasks and attempts; each call sees one moment (a snapshot).

use millrace_domain::{AttemptId, BuildId, BuildState, FileName, ProjectId, TaskId};

use crate::builds::assemble::{complete_attempts, complete_builds, complete_tasks};
use crate::builds::views::{AttemptView, BuildView, TaskView};
use crate::database::Store;
use crate::error::StoreError;

/// Filter and page of a list of builds.
#[derive(Debug, Clone, Copy, Default)]
pub struct ListQuery {
    /// Only builds of this project.
    pub project: Option<ProjectId>,
    /// Only builds in this state, which is computed from their tasks.
    pub state: Option<BuildState>,
    /// Only builds older than this one, which was the last of the previous page.
    pub before: Option<BuildId>,
    /// The most builds in the answer.
    pub limit: u32,
}

impl Store {
    /// One build with its tasks, attempts, packages and files.
    pub async fn build(&self, id: BuildId) -> Result<Option<BuildView>, StoreError> {
        self.within(async {
            let mut tx = self.snapshot().await?;
            let heads = sqlx::query_as(
                "select b.id, o.name as owner, p.name as project, b.project_id, s.name as submitter, b.chroots,
                     b.repositories, b.memory_mib, b.timeout_seconds, b.disk_mib, b.priority, b.submitted_at, b.cancelled_at, b.resubmit_of
                 from builds b join projects p on p.id = b.project_id join accounts o on o.id = p.account_id
                     join accounts s on s.id = b.submitter_id
                 where b.id = $1",
            )
            .bind(id.0)
            .fetch_all(&mut *tx)
            .await?;
            let build = complete_builds(&mut tx, heads).await?.pop();
            tx.commit().await?;
            Ok(build)
        })
        .await
    }

    /// Builds that match the query, newest first.
    pub async fn list_builds(&self, query: &ListQuery) -> Result<Vec<BuildView>, StoreError> {
        self.within(async {
            let mut tx = self.snapshot().await?;
            let heads = sqlx::query_as(
                "select b.id, o.name as owner, p.name as project, b.project_id, s.name as submitter, b.chroots,
                     b.repositories, b.memory_mib, b.timeout_seconds, b.disk_mib, b.priority, b.submitted_at, b.cancelled_at, b.resubmit_of
                 -- `o` is the owner of the project, `s` the submitter.
                 from builds b join projects p on p.id = b.project_id join accounts o on o.id = p.account_id
                     join accounts s on s.id = b.submitter_id
                 where ($1::bigint is null or b.project_id = $1)
                     and ($2::bigint is null or b.id < $2)
                     -- A live state is rare among all builds: its tasks are found by index, once.
                     and ($3::text is null or $3 in ('failed', 'cancelled', 'succeeded') or b.id in (
                         select t.build_id from tasks t
                         where t.state = $3 and t.state in ('waiting', 'queued', 'running') and t.build_id > 0))
                     -- The first state, in the order given, that some task has.
                     and ($3::text is null or $3 = (
                         select t.state from tasks t where t.build_id = b.id
                         order by array_position($4::text[], t.state) limit 1))
                 order by b.id desc limit $5",
            )
            .bind(query.project.map(|id| id.0))
            .bind(query.before.map(|id| id.0))
            .bind(query.state.map(BuildState::as_str))
            .bind(BuildState::ALL.iter().map(|s| s.as_str()).collect::<Vec<_>>())
            .bind(i64::from(query.limit))
            .fetch_all(&mut *tx)
            .await?;
            let builds = complete_builds(&mut tx, heads).await?;
            tx.commit().await?;
            Ok(builds)
        })
        .await
    }

    /// One task with its attempts.
    pub async fn task(&self, id: TaskId) -> Result<Option<TaskView>, StoreError> {
        self.within(async {
            let mut tx = self.snapshot().await?;
            let rows = sqlx::query_as("select * from tasks where id = $1")
                .bind(id.0)
                .fetch_all(&mut *tx)
                .await?;
            let task = complete_tasks(&mut tx, rows).await?.pop();
            tx.commit().await?;
            Ok(task)
        })
        .await
    }

    /// One attempt with its packages and files.
    pub async fn attempt(&self, id: AttemptId) -> Result<Option<AttemptView>, StoreError> {
        self.within(async {
            let mut tx = self.snapshot().await?;
            let rows = sqlx::query_as(
                "select a.*, b.name as builder_name, (select p.name from legacy_pollers p where p.id = a.poller_id) as poller
                 from attempts a left join builders b on b.id = a.builder_id where a.id = $1",
            )
            .bind(id.0)
            .fetch_all(&mut *tx)
            .await?;
            let attempt = complete_attempts(&mut tx, rows).await?.pop();
            tx.commit().await?;
            Ok(attempt)
        })
        .await
    }

    /// Whether any build names this uploaded source.
    pub async fn source_exists(&self, sha256: &str) -> Result<bool, StoreError> {
        self.within(async {
            let found = sqlx::query_scalar("select exists (select from sources where sha256 = $1)")
                .bind(sha256)
                .fetch_one(&self.pool)
                .await?;
            Ok(found)
        })
        .await
    }

    /// Whether any build names this uploaded source under this file name.
    pub async fn source_named(&self, sha256: &str, name: &FileName) -> Result<bool, StoreError> {
        self.within(async {
            let found = sqlx::query_scalar(
                "select exists (select from sources where sha256 = $1 and name = $2)",
            )
            .bind(sha256)
            .bind(name.as_str())
            .fetch_one(&self.pool)
            .await?;
            Ok(found)
        })
        .await
    }
}
