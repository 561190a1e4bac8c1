//! What is not kept for ever: each minute the files of attempts that ended, and each hour what is old. Of several
//! frontends one does it, in batches, until nothing is left to do; what fails is tried again at the next turn.

use std::collections::HashSet;
use std::time::Duration;

use metrics::counter;
use millrace_chassis::{Backoff, BackoffExt, crash_point};
use millrace_domain::AttemptId;
use millrace_results::ResultError;
use millrace_store::{Deleted, Retention, StoreError};

use crate::config::args::KeepArgs;
use crate::state::AppState;

/// How often is looked whether something is due, or a full store has room again.
const LOOK: Duration = Duration::from_secs(5);
/// The longest pause while the database is away.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Seconds between two turns, a little less than their names, so that looks do not add up.
const MINUTE: u32 = 58;
const HOUR: u32 = 3590;
/// Files of an attempt stay this long after its end, in seconds: uploads in flight end meanwhile.
const TIDY_AFTER: u32 = 120;
/// Batches of one turn at most; the next turn goes on.
const BATCHES: usize = 50;
/// Names that are asked for at once.
const NAMES: usize = 500;

/// Why a step was left to the next turn.
#[derive(Debug, thiserror::Error)]
pub enum Untidied {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The result store.
    #[error(transparent)]
    Results(#[from] ResultError),
}

/// What a turn removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Rows.
    pub rows: Deleted,
    /// Attempts never accepted whose files were removed.
    pub stale_attempts: u64,
    /// Files that accepted reports did not name.
    pub stray_files: u64,
    /// Logs.
    pub logs: u64,
    /// Unfinished uploads.
    pub staged: u64,
    /// Sources that no build names.
    pub sources: u64,
}

/// Tidies up until the stop.
pub async fn run(state: AppState) -> anyhow::Result<()> {
    if !state.wait_ready().await {
        return Ok(());
    }
    let mut backoff = Backoff::new(LOOK, LONGEST_PAUSE);
    loop {
        look_for_room(&state).await;
        let goes_on = match turns(&state).await {
            Ok(()) => {
                backoff.reset();
                state.shutdown.sleep(LOOK).await
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

/// Does what is due.
async fn turns(state: &AppState) -> Result<(), StoreError> {
    for (name, every) in [("minute", MINUTE), ("hour", HOUR)] {
        if state.store.take_turn(name, every).await? {
            turn(state, name).await;
        }
    }
    Ok(())
}

/// Clears the word that the store is full once nobody is refused any more and a file fits in again.
async fn look_for_room(state: &AppState) {
    if state.results_full.is_calm() && state.results.check_room().await.is_ok() {
        state.results_full.clear();
        tracing::info!("the result store has room again");
    }
}

async fn turn(state: &AppState, name: &str) {
    let mut removed = Removed::default();
    let done = if name == "minute" {
        tidy_ended(state, &mut removed).await
    } else {
        remove_old(state, &mut removed).await
    };
    if removed != Removed::default() {
        tell(&removed);
    }
    if let Err(error) = done {
        tracing::warn!("the janitor leaves the rest to its next turn: {error}");
    }
}

fn tell(removed: &Removed) {
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
        "removed what is not kept"
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

/// Removes files that are no result: all those of attempts never accepted, and those that a report did not name.
async fn tidy_ended(state: &AppState, removed: &mut Removed) -> Result<(), Untidied> {
    for _ in 0..BATCHES {
        let batch = state.store.untidy_attempts(TIDY_AFTER).await?;
        if batch.is_empty() || state.shutdown.is_stopping() {
            break;
        }
        crash_point!("tidying.begun");
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
        crash_point!("tidying.removed");
        let ids: Vec<AttemptId> = batch.iter().map(|attempt| attempt.id).collect();
        state.store.note_tidied(&ids).await?;
        crash_point!("tidying.noted");
    }
    Ok(())
}

async fn remove_old(state: &AppState, removed: &mut Removed) -> Result<(), Untidied> {
    let keep = &state.settings.config.keep;
    forget_rows(state, keep, removed).await?;
    remove_logs(state, keep, removed).await?;
    remove_late_files(state, removed).await?;
    removed.staged += state
        .results
        .sweep_staging(hours(keep.staging_hours))
        .await?;
    remove_sources(state, keep, removed).await
}

async fn forget_rows(
    state: &AppState,
    keep: &KeepArgs,
    removed: &mut Removed,
) -> Result<(), Untidied> {
    let keeping = Retention {
        keys_days: keep.keep_keys_days,
        parked: keep.keep_parked,
        parked_days: keep.keep_parked_days,
        builders_days: keep.keep_builders_days,
    };
    for _ in 0..BATCHES {
        let forgotten = state.store.forget(&keeping).await?;
        if forgotten.is_nothing() {
            break;
        }
        removed.rows.keys += forgotten.keys;
        removed.rows.parked += forgotten.parked;
        removed.rows.builders += forgotten.builders;
        removed.rows.engines += forgotten.engines;
    }
    Ok(())
}

/// The bytes go first: a crash in between repeats the removal instead of forgetting it.
async fn remove_logs(
    state: &AppState,
    keep: &KeepArgs,
    removed: &mut Removed,
) -> Result<(), Untidied> {
    for _ in 0..BATCHES {
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

/// Finds files that arrived after their attempt had been tidied up, because a frontend died before it could remove
/// them itself. Folders of attempts that the database does not know are left to people: it may be a restored one.
async fn remove_late_files(state: &AppState, removed: &mut Removed) -> Result<(), Untidied> {
    let attempts = state.results.attempts_with_files().await?;
    for some in attempts.chunks(NAMES) {
        for stale in state.store.never_accepted(some, TIDY_AFTER).await? {
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
) -> Result<(), Untidied> {
    let age = hours(keep.keep_orphan_sources_hours);
    let old = state.results.old_sources(age).await?;
    for some in old.chunks(NAMES) {
        let digests: Vec<String> = some.iter().map(ToString::to_string).collect();
        let unnamed = state.store.unnamed_sources(&digests).await?;
        for sha256 in some
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

/// Whether a build names a source; where the database cannot tell, it does.
async fn is_named(state: &AppState, digest: String) -> bool {
    let unnamed = state.store.unnamed_sources(&[digest]).await;
    !unnamed.is_ok_and(|unnamed| unnamed.len() == 1)
}

fn hours(hours: u32) -> Duration {
    Duration::from_secs(u64::from(hours) * 3600)
}
