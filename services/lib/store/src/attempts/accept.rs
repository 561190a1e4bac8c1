//! Taking a report: the only way in which an attempt finishes. It is taken once, only from the holder of the
//! lease, and only when every file it names has arrived.

use millrace_domain::{
    AttemptId, AttemptState, FileName, Outcome, StageTime, TaskState, TokenHash,
};
use sqlx::types::Json;

use crate::attempts::raise_limit::{Raise, raise};
use crate::attempts::transition::{End, Locked, Next, lock, settle};
use crate::attempts::uploads::FileKey;
use crate::builders::availability::count_fault;
use crate::builds::views::FileView;
use crate::database::Store;
use crate::database::Tx;
use crate::error::StoreError;
use crate::row::{RowOf, Time, int4};

/// What a builder reports of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// The attempt.
    pub attempt_id: AttemptId,
    /// Digest of its lease token.
    pub lease_token_hash: TokenHash,
    /// How it ended.
    pub outcome: Outcome,
    /// What became of each source that was begun.
    pub packages: Vec<FinishedPackage>,
    /// Stages of the whole attempt.
    pub stages: Vec<StageTime>,
    /// Digest of the chroot's image.
    pub image_digest: Option<String>,
    /// When that image was baked.
    pub image_baked_at: Option<Time>,
    /// A builder is set aside after so many attempts in a row that ended in a fault of its own; 0: never.
    pub set_aside_faults: u32,
    /// The larger limit with which the task goes on, where its project allows it.
    pub raise: Option<Raise>,
}

/// What became of one source.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishedPackage {
    /// Position of the source within the build.
    pub position: u32,
    /// The source's name.
    pub source: FileName,
    /// How it ended.
    pub outcome: Outcome,
    /// All its files; others that were uploaded for it are forgotten.
    pub files: Vec<FileView>,
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acceptance {
    /// It counts; the task is in this state now.
    Accepted {
        /// Terminal, or waiting for another attempt.
        task_state: TaskState,
        /// Its builder was set aside with it.
        set_aside: bool,
    },
    /// It was accepted before.
    Duplicate,
    /// The sender has no right to speak for the attempt any more, for this reason.
    Refused(&'static str),
    /// These files are not in the result store yet; the next heartbeat answers name them.
    Missing(Vec<FileKey>),
}

/// A report's files as columns.
struct Manifest<'a> {
    positions: Vec<i32>,
    names: Vec<&'a str>,
    digests: Vec<&'a str>,
}

impl Store {
    /// Takes a report in one transaction, or says why not.
    pub async fn accept(&self, report: &Finished) -> Result<Acceptance, StoreError> {
        self.within(async {
            let mut tx = self.begin().await?;
            let Some(locked) = lock(&mut tx, report.attempt_id).await? else {
                return Ok(Acceptance::Refused("there is no such attempt"));
            };
            if let Some(answer) = refuse(report, &locked) {
                return Ok(answer);
            }
            let manifest = Manifest::of(report);
            let missing = note_missing(&mut tx, report.attempt_id, &manifest).await?;
            if !missing.is_empty() {
                tx.commit().await?;
                return Ok(Acceptance::Missing(missing));
            }
            keep_results(&mut tx, report, &manifest).await?;
            let raised = raise(&mut tx, &locked, report.raise.as_ref()).await?;
            let next = raised.unwrap_or_else(|| Next::after(&locked, &report.outcome));
            let end = End {
                state: AttemptState::Finished,
                reason: None,
                outcome: Some(&report.outcome),
            };
            settle(&mut tx, &locked, end, &next).await?;
            let most = report.set_aside_faults;
            let set_aside = count_fault(&mut tx, locked.builder, &report.outcome, most).await?;
            tx.commit().await?;
            Ok(Acceptance::Accepted {
                task_state: next.task_state(),
                set_aside,
            })
        })
        .await
    }
}

fn refuse(report: &Finished, locked: &Locked) -> Option<Acceptance> {
    let holds = locked
        .lease_token_hash
        .as_deref()
        .is_some_and(|stored| report.lease_token_hash.matches(stored));
    match (locked.attempt_state, holds) {
        (AttemptState::Claimed, true) if locked.is_current => None,
        (AttemptState::Claimed, true) => Some(Acceptance::Refused("the attempt is not current")),
        (AttemptState::Finished, true) => Some(Acceptance::Duplicate),
        (AttemptState::Claimed | AttemptState::Finished, false) => {
            Some(Acceptance::Refused("the lease token is not the attempt's"))
        }
        (AttemptState::Offered, _) => Some(Acceptance::Refused("the attempt was never claimed")),
        (AttemptState::Lost, _) => Some(Acceptance::Refused("the lease had run out")),
        (AttemptState::Revoked, _) => Some(Acceptance::Refused("the attempt was taken back")),
    }
}

impl<'a> Manifest<'a> {
    fn of(report: &'a Finished) -> Self {
        let files = || {
            report
                .packages
                .iter()
                .flat_map(|package| package.files.iter().map(|file| (package.position, file)))
        };
        Self {
            positions: files().map(|(position, _)| int4(position)).collect(),
            names: files().map(|(_, file)| file.name.as_str()).collect(),
            digests: files().map(|(_, file)| file.sha256.as_str()).collect(),
        }
    }
}

/// Finds the files that have not arrived with the right digest, and keeps them for the heartbeat's answer.
async fn note_missing(
    tx: &mut Tx,
    attempt: AttemptId,
    manifest: &Manifest<'_>,
) -> Result<Vec<FileKey>, StoreError> {
    if manifest.names.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(i32, String)> = sqlx::query_as(
        "with missing as (
            select m.* from unnest($2::integer[], $3::text[], $4::text[]) as m(position, name, sha256)
            where not exists (select from result_files r where r.attempt_id = $1
                and r.position = m.position and r.name = m.name and r.sha256 = m.sha256)
        ), noted as (
            update attempts set missing_files = (select jsonb_agg(to_jsonb(missing)) from missing)
            where id = $1 and state = 'claimed' and exists (select from missing)
        )
        select position, name from missing order by position, name",
    )
    .bind(attempt.0)
    .bind(&manifest.positions)
    .bind(&manifest.names)
    .bind(&manifest.digests)
    .fetch_all(&mut **tx)
    .await?;
    let row = RowOf::new("attempts", attempt);
    rows.into_iter()
        .map(|(position, name)| {
            Ok(FileKey {
                position: row.number(position)?,
                name: row.parse(&name)?,
            })
        })
        .collect()
}

/// Keeps what the report says, and only the files that it names.
async fn keep_results(
    tx: &mut Tx,
    report: &Finished,
    manifest: &Manifest<'_>,
) -> Result<(), StoreError> {
    let packages = &report.packages;
    sqlx::query(
        "with told as (
            update attempts set stages = $2, image_digest = $3, image_baked_at = $9, missing_files = null
            where id = $1 and state = 'claimed'
        ), packages as (
            insert into attempt_packages (attempt_id, position, source, outcome)
            select $1, p.* from unnest($4::integer[], $5::text[], $6::jsonb[]) as p(position, source, outcome)
        )
        delete from result_files r where r.attempt_id = $1 and not exists (
            select from unnest($7::integer[], $8::text[]) as m(position, name)
            where m.position = r.position and m.name = r.name)",
    )
    .bind(report.attempt_id.0)
    .bind(Json(&report.stages))
    .bind(&report.image_digest)
    .bind(packages.iter().map(|p| int4(p.position)).collect::<Vec<_>>())
    .bind(packages.iter().map(|p| p.source.as_str()).collect::<Vec<_>>())
    .bind(packages.iter().map(|p| Json(&p.outcome)).collect::<Vec<_>>())
    .bind(&manifest.positions)
    .bind(&manifest.names)
    .bind(report.image_baked_at)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
