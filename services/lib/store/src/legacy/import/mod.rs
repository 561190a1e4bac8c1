//! Builds of another site, with their numbers, times, owners and ends. They are listed to pollers as they were there, and
//! nobody builds them until they are released.
//!
//! Accounts and projects keep the numbers by which pollers know them; one of ours that has such a number is shown under a
//! new one from then on. Our own keys never change.

pub(crate) mod owners;

use std::collections::BTreeSet;

use millrace_domain::{
    ChrootName, FileName, Limits, Name, Outcome, OutcomeKind, PollerId, RepositoryUrl, SourceUrl,
    TaskState,
};
use sqlx::types::Json;

use crate::database::Store;
use crate::database::Tx;
use crate::error::StoreError;
use crate::row::{Time, int4};

use crate::legacy::import::owners::{Owners, make_room};

/// Serialises imports; any number that nobody else locks.
const LOCK: i64 = 0x6d69_6c6c_696d_706f;

/// A build as another site has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedBuild {
    /// Its number there and here.
    pub id: i64,
    /// Its project there.
    pub project: ImportedProject,
    /// Who submitted it there; the name is made up where none is given.
    pub submitter_id: i64,
    /// What was to be built, in order; at least one.
    pub sources: Vec<(FileName, SourceUrl)>,
    /// Where, as submitted.
    pub chroots: Vec<ChrootName>,
    /// Extra repositories, as submitted.
    pub repositories: Vec<RepositoryUrl>,
    /// Limits of each package.
    pub limits: Limits,
    /// The memory class of these limits.
    pub memory_class: String,
    /// When it was submitted.
    pub submitted_at: Time,
    /// When it began.
    pub started_at: Option<Time>,
    /// When it ended.
    pub ended_at: Option<Time>,
    /// `waiting`, or how it ended.
    pub state: TaskState,
    /// Where its results are.
    pub results: Option<SourceUrl>,
}

/// A project as another site has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedProject {
    /// Its number there.
    pub id: i64,
    /// Its name.
    pub name: Name,
    /// Its owner's number there.
    pub owner_id: i64,
    /// Its owner's name; made up where it is not known.
    pub owner: Option<Name>,
    /// Its chroots.
    pub chroots: Vec<ChrootName>,
    /// Its repositories.
    pub repositories: Vec<RepositoryUrl>,
    /// When it was made.
    pub created_at: Option<Time>,
}

/// What became of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Builds that are new here.
    pub imported: Vec<i64>,
    /// Builds that had been imported before.
    pub known: Vec<i64>,
    /// Builds of our own that have such a number; with one of them nothing is imported.
    pub taken: Vec<i64>,
}

impl Store {
    /// Stores builds of another site, all or none.
    pub async fn import_builds(&self, builds: &[ImportedBuild]) -> Result<Imported, StoreError> {
        self.within(async {
            let mut tx = self.begin().await?;
            sqlx::query("select pg_advisory_xact_lock($1)")
                .bind(LOCK)
                .execute(&mut *tx)
                .await?;
            let mut done = sort_out(&mut tx, builds).await?;
            if !done.taken.is_empty() {
                return Ok(done);
            }
            make_room(&mut tx, builds).await?;
            let mut owners = Owners::default();
            for build in builds {
                if !done.known.contains(&build.id) && !done.imported.contains(&build.id) {
                    let project = owners.project(&mut tx, &build.project).await?;
                    let submitter = owners.account(&mut tx, build.submitter_id, None).await?;
                    insert(&mut tx, build, project, submitter).await?;
                    done.imported.push(build.id);
                }
            }
            tx.commit().await?;
            Ok(done)
        })
        .await
    }

    /// Gives waiting imported builds to the queue, or to a poller; which of them it did. The queue takes those alone all
    /// of whose chroots are offered here.
    pub async fn release_imported(
        &self,
        builds: &[i64],
        poller: Option<PollerId>,
    ) -> Result<Vec<i64>, StoreError> {
        self.within(async {
            let mut tx = self.begin().await?;
            sqlx::query("select id from tasks where build_id = any($1) order by id for no key update")
                .bind(builds)
                .execute(&mut *tx)
                .await?;
            let released: Vec<i64> = sqlx::query_scalar(
                "with ready as (
                    select b.id from builds b where b.id = any($1) and b.imported_at is not null
                        and ($2::bigint is not null or not exists (
                            select from tasks t join chroots c on c.name = t.chroot where t.build_id = b.id and not c.enabled))
                ), freed as (
                    update tasks t set held = case when $2::bigint is not null then 'poller' end,
                        delayed = $2::bigint is not null or t.not_before > now(), waiting_since = now()
                    where t.build_id in (select id from ready) and t.state = 'waiting' and t.held = 'import'
                    returning t.build_id, t.arch, t.memory_class
                ), named_routes as (
                    insert into routes (arch, memory_class) select distinct arch, memory_class from freed order by 1, 2
                    on conflict do nothing
                ), routed as (
                    update builds b set poller_id = $2 where b.id in (select build_id from freed)
                )
                select distinct build_id from freed order by build_id",
            )
            .bind(builds)
            .bind(poller.map(|poller| poller.0))
            .fetch_all(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(released)
        })
        .await
    }
}

/// Which of these numbers are ours already.
async fn sort_out(tx: &mut Tx, builds: &[ImportedBuild]) -> Result<Imported, StoreError> {
    let ids: BTreeSet<i64> = builds.iter().map(|build| build.id).collect();
    let rows: Vec<(i64, bool)> = sqlx::query_as(
        "select id, imported_at is not null from builds where id = any($1) order by id",
    )
    .bind(ids.into_iter().collect::<Vec<_>>())
    .fetch_all(&mut **tx)
    .await?;
    let (known, taken): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, imported)| *imported);
    let numbers = |rows: Vec<(i64, bool)>| rows.into_iter().map(|(id, _)| id).collect();
    Ok(Imported {
        imported: Vec::new(),
        known: numbers(known),
        taken: numbers(taken),
    })
}

async fn insert(
    tx: &mut Tx,
    build: &ImportedBuild,
    project: i64,
    submitter: i64,
) -> Result<(), StoreError> {
    let chroots: Vec<&str> = build.chroots.iter().map(ChrootName::as_str).collect();
    let archs: Vec<&str> = build.chroots.iter().map(ChrootName::arch).collect();
    let ended_at = build.state.is_terminal().then(|| {
        build
            .ended_at
            .or(build.started_at)
            .unwrap_or(build.submitted_at)
    });
    sqlx::query(
        "with build as (
            insert into builds (id, project_id, submitter_id, chroots, repositories, memory_mib, timeout_seconds, submitted_at,
                cancelled_at, first_claim_at, results_url, imported_at)
            overriding system value
            values ($1, $2, $3, $4, $6, $7, $8, $9, case when $10 = 'cancelled' then $12::timestamptz end,
                case when $10 in ('succeeded', 'failed') then coalesce($11, $12) end, $14, now())
        ), named_sources as (
            insert into sources (build_id, position, name, url)
            select $1, s.position - 1, s.name, s.url from unnest($15::text[], $16::text[]) with ordinality as s(name, url, position)
        )
        insert into tasks (build_id, chroot, arch, memory_class, memory_mib, owner_id, priority, state, outcome, created_at,
            started_at, ended_at, held, delayed)
        select $1, c.name, c.arch, $17, $7, p.account_id, 1, $10, $13, $9, $11, $12,
            case when $10 = 'waiting' then 'import' end, $10 = 'waiting'
        from unnest($4::text[], $5::text[]) as c(name, arch), projects p where p.id = $2",
    )
    .bind(build.id)
    .bind(project)
    .bind(submitter)
    .bind(&chroots)
    .bind(&archs)
    .bind(build.repositories.iter().map(RepositoryUrl::as_str).collect::<Vec<_>>())
    .bind(int4(build.limits.memory_mib))
    .bind(int4(build.limits.timeout_seconds))
    .bind(build.submitted_at)
    .bind(build.state.as_str())
    .bind(build.started_at)
    .bind(ended_at)
    .bind(outcome(build.state).map(Json))
    .bind(build.results.as_ref().map(SourceUrl::as_str))
    .bind(build.sources.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>())
    .bind(build.sources.iter().map(|(_, url)| url.as_str()).collect::<Vec<_>>())
    .bind(&build.memory_class)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn outcome(state: TaskState) -> Option<Outcome> {
    let ended = |kind, how: &str| {
        Some(Outcome::new(
            kind,
            format!("{how} at the site it was imported from"),
        ))
    };
    match state {
        TaskState::Succeeded => ended(OutcomeKind::Succeeded, "succeeded"),
        TaskState::Failed => ended(OutcomeKind::BuildFailed, "failed"),
        TaskState::Cancelled => ended(OutcomeKind::Cancelled, "cancelled"),
        TaskState::Waiting | TaskState::Queued | TaskState::Running => None,
    }
}
