//! Import of another site's builds with their numbers, times, owners and outcomes. They are listed to pollers under the same
//! numbers as before, and are not built until they are released.
//!
//! Accounts and projects keep the numbers by which pollers know them. When an account or project of our own has such a number, it
//! is shown under a new one from then on; our own keys never change.

pub(crate) mod numbers;
pub(crate) mod owners;
pub(crate) mod types;

use std::collections::BTreeSet;

use millrace_domain::{
    ChrootName, Outcome, OutcomeKind, PollerId, RepositoryUrl, SourceUrl, TaskState,
};
use sqlx::types::Json;

use crate::database::Store;
use crate::database::Tx;
use crate::error::StoreError;
use crate::legacy::import::numbers::reserve_numbers;
use crate::legacy::import::owners::Owners;
use crate::legacy::import::types::{Imported, ImportedBuild};
use crate::row::int4;

/// Advisory lock that serialises imports; an arbitrary number that nothing else locks.
const LOCK: i64 = 0x6d69_6c6c_696d_706f;

impl Store {
    /// Stores builds of another site, all or none of them.
    pub async fn import_builds(&self, builds: &[ImportedBuild]) -> Result<Imported, StoreError> {
        self.within(async {
            let mut tx = self.begin().await?;
            sqlx::query("select pg_advisory_xact_lock($1)")
                .bind(LOCK)
                .execute(&mut *tx)
                .await?;
            let mut done = sort_by_known_number(&mut tx, builds).await?;
            if !done.taken.is_empty() {
                return Ok(done);
            }
            reserve_numbers(&mut tx, builds).await?;
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

    /// Releases waiting imported builds to the queue, or to `poller`, and returns those that were released. The queue takes only
    /// builds all of whose chroots are enabled here.
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
                    -- Imported builds that may be built here; the tasks were locked above.
                    select b.id from builds b where b.id = any($1) and b.imported_at is not null
                        and ($2::bigint is not null or not exists (
                            select from tasks t join chroots c on c.name = t.chroot where t.build_id = b.id and not c.enabled))
                ), freed as (
                    -- Ends the hold `import`; guarded by state and hold.
                    update tasks t set held = case when $2::bigint is not null then 'poller' end,
                        delayed = $2::bigint is not null or t.not_before > now(), waiting_since = now()
                    where t.build_id in (select id from ready) and t.state = 'waiting' and t.held = 'import'
                    returning t.build_id, t.arch, t.memory_class
                ), named_routes as (
                    -- A release looks only at routes that have a row.
                    insert into routes (arch, memory_class) select distinct arch, memory_class from freed order by 1, 2
                    on conflict do nothing
                ), routed as (
                    -- Null routes the build to the queue.
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

/// Splits the builds' numbers into those imported before and those that builds of our own have.
async fn sort_by_known_number(
    tx: &mut Tx,
    builds: &[ImportedBuild],
) -> Result<Imported, StoreError> {
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

/// Inserts one build with its sources and tasks, in its final state where it has ended.
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
            -- The number of the other site becomes our key; `imported_at` marks the origin.
            insert into builds (id, project_id, submitter_id, chroots, repositories, memory_mib, timeout_seconds, submitted_at,
                cancelled_at, first_claim_at, results_url, imported_at)
            overriding system value
            values ($1, $2, $3, $4, $6, $7, $8, $9, case when $10 = 'cancelled' then $12::timestamptz end,
                case when $10 in ('succeeded', 'failed') then coalesce($11, $12) end, $14, now())
        ), named_sources as (
            -- Positions count from 0 in the order given.
            insert into sources (build_id, position, name, url)
            select $1, s.position - 1, s.name, s.url from unnest($15::text[], $16::text[]) with ordinality as s(name, url, position)
        )
        -- One task per chroot, held back with the reason `import` while it waits.
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

/// The outcome that stands for an end at the other site; none while the build waits.
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
