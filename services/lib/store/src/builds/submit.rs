//! Stores a submission: build, sources, tasks and idempotency key in one statement, so that an answered submission is stored
//! completely and a repeated one is stored once.

use millrace_domain::{
    BuildId, ChrootName, FileName, IdempotencyKey, Limits, Priority, RepositoryUrl, SourceUrl,
    TaskId, TaskState,
};
use sqlx::FromRow;

use crate::builds::views::{BuildView, SourcePlace, SourceView, TaskView};
use crate::database::Store;
use crate::error::StoreError;
use crate::projects::defaults::ProjectRow;
use crate::row::{RowOf, Time, int4, int8, rank};

/// A source package of a build to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSource {
    /// File name of the source package, as logs and results show it.
    pub name: FileName,
    /// Uploaded, or to be fetched from an address.
    pub place: SourcePlace,
}

/// Idempotency key of a submission, by which a repeat is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmissionKey {
    /// The client's key, unique per account for seven days.
    pub key: IdempotencyKey,
    /// SHA-256 of the request's content; different content under the same key is refused.
    pub digest: [u8; 32],
}

/// A build to be stored; everything in it is frozen from here on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBuild {
    /// The project that the results belong to.
    pub project: ProjectRow,
    /// Key of the submitter's account.
    pub submitter: i64,
    /// Source packages in the order in which they are built; at least one.
    pub sources: Vec<NewSource>,
    /// Chroots; at least one, all of one release, none twice.
    pub chroots: Vec<ChrootName>,
    /// Extra repositories.
    pub repositories: Vec<RepositoryUrl>,
    /// Limits of each package.
    pub limits: Limits,
    /// Disk space of each package's sandbox in MiB; it counts where it is more than the builder's own setting.
    pub disk_mib: Option<u32>,
    /// Priority class as submitted.
    pub priority: Priority,
    /// The memory class of these limits.
    pub memory_class: String,
    /// The build that this one repeats.
    pub resubmit_of: Option<BuildId>,
    /// Idempotency key; none if the client sent none.
    pub key: Option<SubmissionKey>,
}

/// Answer to a submission.
#[derive(Debug, Clone, PartialEq)]
pub enum Submission {
    /// The build is stored, as shown.
    Accepted(Box<BuildView>),
    /// An earlier submission under the same key had stored this build.
    Replayed(BuildId),
    /// Nothing was stored, for this reason.
    Refused(SubmitRefused),
}

/// Why a submission was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitRefused {
    /// The key was used for a submission with different content.
    #[error("this idempotency key was used for another submission")]
    KeyReused,
    /// The chroot does not exist or is disabled.
    #[error("chroot {0} is not offered here")]
    UnknownChroot(ChrootName),
}

/// Stores the build only if every chroot is enabled; a key that is taken makes the whole statement fail.
const SUBMIT: &str = "
    with chosen as (
        -- The enabled ones among the named chroots.
        select c.name, c.arch, n.position
        from unnest($3::text[]) with ordinality as n(name, position)
        join chroots c on c.name = n.name and c.enabled
    ), dice as materialized (
        -- Materialized: one random number for the whole statement.
        select floor(random() * 100) as shown
    ), routed as (
        -- Pollers that match the build share the numbers 0 to 99 by their percentages; the rest goes to the queue.
        select p.id from dice cross join (
            select p.id, sum(p.share_percent) over (order by p.id) as upto
            from legacy_pollers p, projects r join accounts o on o.id = r.account_id
            where r.id = $1 and p.mode = 'execute' and p.removed_at is null and p.alive_until > now()
                and (p.projects = '{}' or o.name || '/' || r.name = any(p.projects))
                and (p.chroots = '{}' or $3::text[] <@ p.chroots)
        ) p
        where dice.shown < p.upto order by p.id limit 1
    ), build as (
        -- Without a row here nothing below is stored.
        insert into builds (project_id, submitter_id, chroots, repositories, memory_mib, timeout_seconds, resubmit_of, priority, poller_id, disk_mib)
        select $1, $2, $3, $4, $5, $6, $7, $17, (select id from routed), $18
        where (select count(*) from chosen) = cardinality($3::text[])
        returning id, submitted_at, poller_id
    ), named_sources as (
        -- Positions count from 0 in the order given.
        insert into sources (build_id, position, name, url, sha256, size)
        select build.id, s.position - 1, s.name, s.url, s.sha256, s.size
        from build, unnest($9::text[], $10::text[], $11::text[], $12::bigint[]) with ordinality
            as s(name, url, sha256, size, position)
    ), new_tasks as (
        -- A build for a poller is held back from the queue.
        insert into tasks (build_id, chroot, arch, memory_class, memory_mib, owner_id, priority, held, delayed)
        select build.id, chosen.name, chosen.arch, $8, $5, p.account_id, $17,
            case when build.poller_id is not null then 'poller' end, build.poller_id is not null
        from build, chosen, projects p where p.id = $1 order by chosen.position
        returning id, chroot
    ), named_routes as (
        -- A release looks only at routes that have a row; in order of the key against deadlocks.
        insert into routes (arch, memory_class)
        select distinct chosen.arch, $8 from build, chosen order by 1
        on conflict do nothing
    ), named_key as (
        -- The unique violation of the primary key is how a repeat is found.
        insert into idempotency_keys (account_id, key, digest, build_id)
        select $2, $13, $14, build.id from build where $13::text is not null
    )
    select build.id, build.submitted_at, (select name from accounts where id = $2) as submitter,
        (select array_agg(new_tasks.id order by chosen.position)
         from new_tasks join chosen on chosen.name = new_tasks.chroot) as tasks,
        pg_notify($15, $16)::text
    from build";

#[derive(FromRow)]
struct StoredColumns {
    id: i64,
    submitted_at: Time,
    submitter: String,
    tasks: Vec<i64>,
}

impl Store {
    /// Stores a build, or finds the one that the same key stored before. Concurrent twins get the same build.
    pub async fn submit_build(&self, new: &NewBuild) -> Result<Submission, StoreError> {
        self.within(async {
            match self.insert_build(new).await {
                Ok(Some(stored)) => Ok(Submission::Accepted(Box::new(view_of(new, stored)?))),
                Ok(None) => match self.replay(new).await? {
                    Some(earlier) => Ok(earlier),
                    None => Ok(Submission::Refused(self.find_unknown_chroot(new).await?)),
                },
                Err(error) if is_taken_key(&error) => self.replay(new).await?.ok_or_else(|| {
                    StoreError::Unavailable("the idempotency key expired just now".into())
                }),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    async fn insert_build(&self, new: &NewBuild) -> Result<Option<StoredColumns>, sqlx::Error> {
        let chroots: Vec<&str> = new.chroots.iter().map(ChrootName::as_str).collect();
        let repositories: Vec<&str> = new.repositories.iter().map(RepositoryUrl::as_str).collect();
        let places: Vec<_> = new.sources.iter().map(|s| columns_of(&s.place)).collect();
        sqlx::query_as(SUBMIT)
            .bind(new.project.id.0)
            .bind(new.submitter)
            .bind(chroots)
            .bind(repositories)
            .bind(int4(new.limits.memory_mib))
            .bind(int4(new.limits.timeout_seconds))
            .bind(new.resubmit_of.map(|id| id.0))
            .bind(&new.memory_class)
            .bind(
                new.sources
                    .iter()
                    .map(|s| s.name.as_str())
                    .collect::<Vec<_>>(),
            )
            .bind(places.iter().map(|p| p.0).collect::<Vec<_>>())
            .bind(places.iter().map(|p| p.1).collect::<Vec<_>>())
            .bind(places.iter().map(|p| p.2).collect::<Vec<_>>())
            .bind(new.key.as_ref().map(|k| k.key.as_str()))
            .bind(new.key.as_ref().map(|k| k.digest.as_slice()))
            .bind(crate::notify::CHANNEL)
            .bind(&*self.own)
            .bind(rank(new.priority))
            .bind(new.disk_mib.map(int4))
            .fetch_optional(&self.pool)
            .await
    }

    /// The build that an earlier submission stored under the same key; none if there is no such key.
    async fn replay(&self, new: &NewBuild) -> Result<Option<Submission>, StoreError> {
        let Some(key) = &new.key else {
            return Ok(None);
        };
        let row: Option<(Vec<u8>, i64)> = sqlx::query_as(
            "select digest, build_id from idempotency_keys where account_id = $1 and key = $2",
        )
        .bind(new.submitter)
        .bind(key.key.as_str())
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|(digest, build_id)| {
            if digest == key.digest {
                Submission::Replayed(BuildId(build_id))
            } else {
                Submission::Refused(SubmitRefused::KeyReused)
            }
        }))
    }

    async fn find_unknown_chroot(&self, new: &NewBuild) -> Result<SubmitRefused, StoreError> {
        let enabled: Vec<String> = sqlx::query_scalar("select name from chroots where enabled")
            .fetch_all(&self.pool)
            .await?;
        new.chroots
            .iter()
            .find(|chroot| !enabled.iter().any(|name| name == chroot.as_str()))
            .map(|chroot| SubmitRefused::UnknownChroot(chroot.clone()))
            .ok_or_else(|| {
                StoreError::Unavailable("the chroots changed during the submission".into())
            })
    }
}

/// The build as it was just stored, without reading it back.
fn view_of(new: &NewBuild, stored: StoredColumns) -> Result<BuildView, StoreError> {
    let id = BuildId(stored.id);
    let task = |(chroot, task_id): (&ChrootName, i64)| TaskView {
        id: TaskId(task_id),
        build_id: id,
        chroot: chroot.clone(),
        state: TaskState::Waiting,
        outcome: None,
        raised_limit: None,
        attempts_counted: 0,
        created_at: stored.submitted_at,
        started_at: None,
        ended_at: None,
        cancel_requested_at: None,
        attempts: Vec::new(),
    };
    let source = |(position, source): (u32, &NewSource)| SourceView {
        position,
        name: source.name.clone(),
        place: source.place.clone(),
    };
    Ok(BuildView {
        id,
        owner: new.project.owner.clone(),
        project: new.project.name.clone(),
        project_id: new.project.id,
        submitter: RowOf::new("accounts", new.submitter).parse(&stored.submitter)?,
        chroots: new.chroots.clone(),
        repositories: new.repositories.clone(),
        limits: new.limits,
        disk_mib: new.disk_mib,
        priority: new.priority,
        submitted_at: stored.submitted_at,
        cancelled_at: None,
        resubmit_of: new.resubmit_of,
        sources: (0..).zip(&new.sources).map(source).collect(),
        tasks: new.chroots.iter().zip(stored.tasks).map(task).collect(),
    })
}

type PlaceColumns<'a> = (Option<&'a str>, Option<&'a str>, Option<i64>);

fn columns_of(place: &SourcePlace) -> PlaceColumns<'_> {
    match place {
        SourcePlace::Url(url) => (Some(SourceUrl::as_str(url)), None, None),
        SourcePlace::Stored { sha256, size } => (None, Some(sha256), Some(int8(*size))),
    }
}

fn is_taken_key(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|e| e.is_unique_violation() && e.constraint() == Some("idempotency_keys_pkey"))
}
