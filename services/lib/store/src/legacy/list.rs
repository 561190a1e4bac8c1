//! Rows of the list that pollers of 2012 fetch: the oldest builds of which no task was ever claimed.

use std::collections::HashMap;

use millrace_domain::{BuildId, ChrootName, Limits, Name, ProjectId, RepositoryUrl};
use sqlx::FromRow;

use crate::builds::assemble::sources_of;
use crate::builds::views::SourceView;
use crate::database::Store;
use crate::database::Tx;
use crate::error::StoreError;
use crate::row::{RowOf, Time};

/// A build as the legacy list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyBuild {
    /// The build's number, which pollers know as `id`.
    pub id: BuildId,
    /// Number of the submitter's account as pollers know it.
    pub submitter_id: i64,
    /// Source packages in the order of the build.
    pub sources: Vec<SourceView>,
    /// Chroots, in the order submitted.
    pub chroots: Vec<ChrootName>,
    /// Extra repositories, as submitted.
    pub repositories: Vec<RepositoryUrl>,
    /// Limits of each package.
    pub limits: Limits,
    /// When it was submitted.
    pub submitted_at: Time,
    /// The project with its present settings.
    pub project: LegacyProject,
}

/// A project as the legacy list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyProject {
    /// The project's number as pollers know it.
    pub id: ProjectId,
    /// The project's name, without its owner.
    pub name: Name,
    /// Number of the owner's account as pollers know it.
    pub owner_id: i64,
    /// Name of the owner's account.
    pub owner: Name,
    /// The project's present chroots.
    pub chroots: Vec<ChrootName>,
    /// The project's present repositories.
    pub repositories: Vec<RepositoryUrl>,
    /// When the project was created.
    pub created_at: Time,
}

#[derive(FromRow)]
struct LegacyColumns {
    id: i64,
    submitter_id: i64,
    chroots: Vec<String>,
    repositories: Vec<String>,
    memory_mib: i32,
    timeout_seconds: i32,
    submitted_at: Time,
    project_id: i64,
    project: String,
    owner_id: i64,
    owner: String,
    project_chroots: Vec<String>,
    project_repositories: Vec<String>,
    project_created_at: Time,
}

/// Builds by their ids, in no order.
const BUILDS: &str = "
    select b.id, coalesce(s.legacy_id, s.id) as submitter_id, b.chroots, b.repositories, b.memory_mib, b.timeout_seconds,
        b.submitted_at, coalesce(p.legacy_id, p.id) as project_id, p.name as project,
        coalesce(o.legacy_id, o.id) as owner_id, o.name as owner,
        p.chroots as project_chroots, p.repositories as project_repositories, p.created_at as project_created_at
    from unnest($1::bigint[]) as n(id)
        -- Each row by its primary key: a plain join might be planned as a scan of the whole tables.
        -- The numbers shown are `legacy_id` where an import gave one, else our own keys.
        cross join lateral (select * from builds where builds.id = n.id limit 1) b
        cross join lateral (select * from projects where projects.id = b.project_id limit 1) p
        cross join lateral (select * from accounts where accounts.id = p.account_id limit 1) o
        cross join lateral (select * from accounts where accounts.id = b.submitter_id limit 1) s";

/// Ids of the list, oldest first. A lateral join in place of `not exists`, and the limit outside of it, keep the planner from
/// sorting or joining all waiting builds.
const WAITING: &str = "
    select b.id from builds b left join lateral (
        select true as one from tasks t
        where t.build_id = b.id and t.state in ('succeeded', 'failed', 'cancelled') limit 1
    ) over on true
    where b.cancelled_at is null and b.first_claim_at is null and over.one is null
    order by b.submitted_at, b.id limit $1";

impl Store {
    /// The oldest builds that are not cancelled and of which no task was ever claimed or has ended.
    pub async fn waiting_builds(&self, limit: u32) -> Result<Vec<LegacyBuild>, StoreError> {
        self.within(async {
            let mut tx = self.snapshot().await?;
            let ids: Vec<i64> = sqlx::query_scalar(WAITING)
                .bind(i64::from(limit))
                .fetch_all(&mut *tx)
                .await?;
            let builds = builds_by_id(&mut tx, &ids).await?;
            tx.commit().await?;
            Ok(builds)
        })
        .await
    }
}

/// The builds with these ids, in this order; unknown ids are left out.
pub(crate) async fn builds_by_id(tx: &mut Tx, ids: &[i64]) -> Result<Vec<LegacyBuild>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<LegacyColumns> = sqlx::query_as(BUILDS)
        .bind(ids)
        .fetch_all(&mut **tx)
        .await?;
    let mut rows: HashMap<i64, LegacyColumns> = rows.into_iter().map(|row| (row.id, row)).collect();
    let mut sources = sources_of(tx, ids).await?;
    ids.iter()
        .filter_map(|id| rows.remove(id))
        .map(|columns| {
            let found = sources.remove(&BuildId(columns.id)).unwrap_or_default();
            legacy_build(&columns, found)
        })
        .collect()
}

fn legacy_build(
    columns: &LegacyColumns,
    sources: Vec<SourceView>,
) -> Result<LegacyBuild, StoreError> {
    let row = RowOf::new("builds", columns.id);
    let project = RowOf::new("projects", columns.project_id);
    Ok(LegacyBuild {
        id: BuildId(columns.id),
        submitter_id: columns.submitter_id,
        sources,
        chroots: row.parse_all(&columns.chroots)?,
        repositories: row.parse_all(&columns.repositories)?,
        limits: Limits {
            memory_mib: row.number(columns.memory_mib)?,
            timeout_seconds: row.number(columns.timeout_seconds)?,
        },
        submitted_at: columns.submitted_at,
        project: LegacyProject {
            id: ProjectId(columns.project_id),
            name: project.parse(&columns.project)?,
            owner_id: columns.owner_id,
            owner: project.parse(&columns.owner)?,
            chroots: project.parse_all(&columns.project_chroots)?,
            repositories: project.parse_all(&columns.project_repositories)?,
            created_at: columns.project_created_at,
        },
    })
}
