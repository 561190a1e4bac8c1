//! Deletes what is not kept for ever: each minute the files of ended attempts that are no results, each hour what is
//! older than the `MILLRACE_KEEP_*` settings allow. One of several frontends claims each run and works in batches; what
//! fails is repeated by the next run.

use std::collections::HashSet;
use std::time::Duration;

use metrics::counter;
use millrace_chassis::{Backoff, BackoffExt, crash_point};
use millrace_domain::AttemptId;
use millrace_results::ResultError;
use millrace_store::{Deleted, Retention, StoreError};

use crate::config::args::KeepArgs;
use crate::state::AppState;

/// How often the janitor asks whether a job is due, and whether a full result store has space again.
const TICK: Duration = Duration::from_secs(5);
/// The longest pause while the database is away.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Files of an attempt stay this long after its end, in seconds, so that uploads in flight can end.
const CLEANUP_DELAY: u32 = 120;
/// Batches of one kind in one run of a job; what is left waits for the next run.
const MAX_BATCHES: usize = 50;
/// Attempts or digests in one query.
const CHUNK: usize = 500;

/// The periodic jobs. Of several frontends, one claims each run.
#[derive(Debug, Clone, Copy)]
enum Job {
    /// Removes files of ended attempts that are no results.
    Minute,
    /// Deletes what is older than the settings allow.
    Hour,
}

/// Why a run ended before it was done.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// The database refused or did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The result store could not list or delete.
    #[error(transparent)]
    Results(#[from] ResultError),
}

/// What one run of a job removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Rows of the database: keys, parked messages, builders, engines.
    pub rows: Deleted,
    /// Attempts whose files were removed, since no report of them was accepted.
    pub stale_attempts: u64,
    /// Files that accepted reports did not name.
    pub stray_files: u64,
    /// Logs of ended attempts, by age or number.
    pub logs: u64,
    /// Uploads that were begun and never finished.
    pub staged: u64,
    /// Uploaded source packages that no build names.
    pub sources: u64,
}

impl Job {
    const ALL: [Self; 2] = [Self::Minute, Self::Hour];

    /// The name under which the database keeps the last run.
    fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
        }
    }

    /// Seconds between two runs: a little less than the name says, so that the janitor's own period adds nothing.
    fn period_seconds(self) -> u32 {
        match self {
            Self::Minute => 58,
            Self::Hour => 3590,
        }
    }
}

/// Runs the jobs that are due, until the stop.
pub async fn run(state: AppState) -> anyhow::Result<()> {
    if !state.wait_ready().await {
        return Ok(());
    }
    let mut backoff = Backoff::new(TICK, LONGEST_PAUSE);
    loop {
        recheck_full_store(&state).await;
        let goes_on = match tick(&state).await {
            Ok(()) => {
                backoff.reset();
                state.shutdown.sleep(TICK).await
            }
            Err(error) => {
                tracing::debug!("the janitor waits for the database: {error}");
                backoff.pause(state.shutdown.soft()).await
            }
        };
        if !goes_on {
            return Ok(());
        }
    }
}

/// Runs the jobs that are due and that no other frontend has claimed.
async fn tick(state: &AppState) -> Result<(), StoreError> {
    for job in Job::ALL {
        let claimed = state
            .store
            .claim_periodic_run(job.name(), job.period_seconds());
        if claimed.await? {
            run_job(state, job).await;
        }
    }
    Ok(())
}

/// Notes that the result store has space again, once no upload is refused any more and a test file can be written.
async fn recheck_full_store(state: &AppState) {
    if state.results_full.has_no_recent_refusal() && state.results.check_room().await.is_ok() {
        state.results_full.clear();
        tracing::info!("the result store has space again");
    }
}

#[tracing::instrument(level = "error", skip_all, fields(job = job.name()))]
async fn run_job(state: &AppState, job: Job) {
    let mut removed = Removed::default();
    let done = match job {
        Job::Minute => remove_unaccepted_files(state, &mut removed).await,
        Job::Hour => remove_old(state, &mut removed).await,
    };
    if removed != Removed::default() {
        report_removed(&removed);
    }
    if let Err(error) = done {
        tracing::warn!("cleanup failed, the next run continues: {error}");
    }
}

/// Logs and counts what a run removed.
fn report_removed(removed: &Removed) {
    tracing::info!(
        keys = removed.rows.keys,
        parked = removed.rows.parked,
        builders = removed.rows.builders,
        engines = removed.rows.engines,
        stale_attempts = removed.stale_attempts,
        stray_files = removed.stray_files,
        logs = removed.logs,
        staged = removed.staged,
        sources = removed.sources,
        "expired data removed"
    );
    for (what, count) in [
        ("keys", removed.rows.keys),
        ("parked", removed.rows.parked),
        ("builders", removed.rows.builders),
        ("engines", removed.rows.engines),
        ("stale_attempts", removed.stale_attempts),
        ("stray_files", removed.stray_files),
        ("logs", removed.logs),
        ("staged", removed.staged),
        ("sources", removed.sources),
    ] {
        counter!("millrace_removed_total", "what" => what).increment(count);
    }
}

/// Removes files that are no results: all files of attempts that were never accepted, and of accepted ones those
/// that the report did not name.
async fn remove_unaccepted_files(
    state: &AppState,
    removed: &mut Removed,
) -> Result<(), CleanupError> {
    for _ in 0..MAX_BATCHES {
        let batch = state.store.uncleaned_attempts(CLEANUP_DELAY).await?;
        if batch.is_empty() || state.shutdown.is_stopping() {
            break;
        }
        crash_point("tidying.begun");
        for attempt in &batch {
            if attempt.accepted {
                let files = state.store.recorded_files(attempt.id).await?;
                let kept: HashSet<_> = files.into_iter().map(|f| (f.position, f.name)).collect();
                removed.stray_files += state.results.keep_attempt_files(attempt.id, &kept).await?;
            } else {
                state.results.delete_attempt_files(attempt.id).await?;
                removed.stale_attempts += 1;
            }
        }
        crash_point("tidying.removed");
        let ids: Vec<AttemptId> = batch.iter().map(|attempt| attempt.id).collect();
        state.store.mark_cleaned(&ids).await?;
        crash_point("tidying.noted");
    }
    Ok(())
}

async fn remove_old(state: &AppState, removed: &mut Removed) -> Result<(), CleanupError> {
    let keep = &state.settings.config.keep;
    delete_rows(state, keep, removed).await?;
    remove_logs(state, keep, removed).await?;
    remove_late_files(state, removed).await?;
    removed.staged += state
        .results
        .sweep_staging(hours(keep.staging_hours))
        .await?;
    remove_sources(state, keep, removed).await
}

async fn delete_rows(
    state: &AppState,
    keep: &KeepArgs,
    removed: &mut Removed,
) -> Result<(), CleanupError> {
    let retention = Retention {
        keys_days: keep.keep_keys_days,
        parked: keep.keep_parked,
        parked_days: keep.keep_parked_days,
        builders_days: keep.keep_builders_days,
    };
    for _ in 0..MAX_BATCHES {
        let deleted = state.store.delete_expired(&retention).await?;
        if deleted.is_nothing() {
            break;
        }
        removed.rows.keys += deleted.keys;
        removed.rows.parked += deleted.parked;
        removed.rows.builders += deleted.builders;
        removed.rows.engines += deleted.engines;
    }
    Ok(())
}

/// Bytes are deleted before the row is marked: a crash in between repeats the deletion instead of leaving the bytes.
async fn remove_logs(
    state: &AppState,
    keep: &KeepArgs,
    removed: &mut Removed,
) -> Result<(), CleanupError> {
    for _ in 0..MAX_BATCHES {
        let batch = state
            .store
            .old_logs(keep.keep_logs_days, keep.keep_logs)
            .await?;
        if batch.is_empty() || state.shutdown.is_stopping() {
            break;
        }
        for attempt in &batch {
            state.results.delete_log(*attempt).await?;
        }
        state.store.note_logs_removed(&batch).await?;
        removed.logs += batch.len() as u64;
    }
    Ok(())
}

/// Removes files that arrived after their attempt had been cleaned up, because a frontend died before it could remove
/// them itself. Folders of attempts that the database does not know stay: the database may be a restored one.
async fn remove_late_files(state: &AppState, removed: &mut Removed) -> Result<(), CleanupError> {
    let attempts = state.results.attempts_with_files().await?;
    for chunk in attempts.chunks(CHUNK) {
        for stale in state.store.never_accepted(chunk, CLEANUP_DELAY).await? {
            state.results.delete_attempt_files(stale).await?;
            removed.stale_attempts += 1;
        }
    }
    Ok(())
}

async fn remove_sources(
    state: &AppState,
    keep: &KeepArgs,
    removed: &mut Removed,
) -> Result<(), CleanupError> {
    let age = hours(keep.keep_orphan_sources_hours);
    let old = state.results.old_sources(age).await?;
    for chunk in old.chunks(CHUNK) {
        let digests: Vec<String> = chunk.iter().map(ToString::to_string).collect();
        let unnamed = state.store.unnamed_sources(&digests).await?;
        for sha256 in chunk
            .iter()
            .filter(|s| unnamed.iter().any(|u| u == s.as_str()))
        {
            let is_named = is_named(state, sha256.to_string());
            if state.results.remove_source(sha256, age, is_named).await? {
                removed.sources += 1;
            }
        }
    }
    Ok(())
}

/// Whether a build names this source; counted as named while the database does not answer.
async fn is_named(state: &AppState, digest: String) -> bool {
    let unnamed = state.store.unnamed_sources(&[digest]).await;
    !unnamed.is_ok_and(|unnamed| unnamed.len() == 1)
}

fn hours(hours: u32) -> Duration {
    Duration::from_secs(u64::from(hours) * 3600)
}
