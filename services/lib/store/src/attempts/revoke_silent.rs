//! Takes back cancelled work of silent builders without waiting for its lease: at once with the cancel, or in a sweep where
//! the builder falls silent afterwards.
//!
//! Only silence of the builder itself counts. While the database or all frontends are down no heartbeat arrives, and
//! afterwards each builder needs time for one: so sweeps must have run without a gap for as long as the silence lasts.

use millrace_domain::{
    AttemptId, AttemptState, BuildId, Outcome, OutcomeKind, Stage, TaskId, TaskState,
};
use sqlx::{FromRow, PgExecutor};
use uuid::Uuid;

use crate::attempts::expire::GAP_SECONDS;
use crate::attempts::transition::{AttemptEnd, NextTaskState, end_attempt, lock_attempt};
use crate::database::Store;
use crate::database::Tx;
use crate::error::StoreError;
use crate::row::{RowOf, int4};

/// Cancelled attempts whose builders are silent: all, those of build `$3`, or attempt `$4`; at most 200 at once. Takes no
/// locks: the caller locks each attempt and asks again. Running tasks that are being cancelled are found by
/// `tasks_being_cancelled`.
const SILENT_ATTEMPTS: &str = "
    select a.id, b.name as builder, a.stage, extract(epoch from now() - heard.at)::bigint as seconds
    from tasks t join attempts a on a.id = t.current_attempt and a.state = 'claimed'
        join builders b on b.id = a.builder_id
        cross join lateral (select greatest(b.last_seen_at, a.claimed_at) as at) heard
        cross join sweeper_ticks s
    where t.state = 'running' and t.cancel_requested_at is not null
        and heard.at < now() - $1 * interval '1 second'
        and s.resumed_at < now() - $1 * interval '1 second'
        and s.ticked_at > now() - $2 * interval '1 second'
        and ($3::bigint is null or t.build_id = $3) and ($4::uuid is null or a.id = $4)
    order by a.id limit 200";

/// A cancelled attempt whose builder is silent.
#[derive(Debug, FromRow)]
pub(crate) struct SilentAttempt {
    id: Uuid,
    builder: String,
    stage: Option<String>,
    seconds: i64,
}

impl Store {
    /// Takes back cancelled work of builders that have been silent for this long, each attempt in a transaction of its own.
    pub(crate) async fn revoke_silent(
        &self,
        silent_seconds: u32,
    ) -> Result<Vec<(TaskId, AttemptId)>, StoreError> {
        let found = self.within(find_silent(&self.pool, silent_seconds, None, None));
        let mut revoked = Vec::new();
        for candidate in found.await? {
            let attempt = AttemptId(candidate.id);
            let task = self.within(async {
                let mut tx = self.begin().await?;
                let Some(locked) = lock_attempt(&mut tx, attempt).await? else {
                    return Ok(None);
                };
                // A heartbeat or the end of the attempt may have come before the lock.
                let still = find_silent(&mut *tx, silent_seconds, None, Some(attempt)).await?;
                let Some(silent) = still.into_iter().next() else {
                    return Ok(None);
                };
                silent.revoke(&mut tx).await?;
                tx.commit().await?;
                Ok(Some(TaskId(locked.task_id)))
            });
            if let Some(task) = task.await? {
                revoked.push((task, attempt));
            }
        }
        Ok(revoked)
    }
}

/// Takes back the attempts of a build that silent builders hold. The caller has locked the tasks of the build and marked
/// them as cancelled.
pub(crate) async fn revoke_silent_of(
    tx: &mut Tx,
    build: BuildId,
    silent_seconds: u32,
) -> Result<Vec<AttemptId>, StoreError> {
    let mut revoked = Vec::new();
    for silent in find_silent(&mut **tx, silent_seconds, Some(build), None).await? {
        if silent.revoke(tx).await? {
            revoked.push(AttemptId(silent.id));
        }
    }
    Ok(revoked)
}

async fn find_silent(
    on: impl PgExecutor<'_>,
    silent_seconds: u32,
    build: Option<BuildId>,
    attempt: Option<AttemptId>,
) -> Result<Vec<SilentAttempt>, StoreError> {
    let found = sqlx::query_as(SILENT_ATTEMPTS)
        .bind(int4(silent_seconds))
        .bind(GAP_SECONDS)
        .bind(build.map(|build| build.0))
        .bind(attempt.map(|attempt| attempt.0))
        .fetch_all(on)
        .await?;
    Ok(found)
}

impl SilentAttempt {
    /// Ends the attempt and cancels its task; false when the attempt has ended since it was found.
    async fn revoke(&self, tx: &mut Tx) -> Result<bool, StoreError> {
        let id = AttemptId(self.id);
        let locked = match lock_attempt(tx, id).await? {
            Some(locked) if locked.attempt_state == AttemptState::Claimed => locked,
            Some(_) | None => return Ok(false),
        };
        let end = AttemptEnd {
            state: AttemptState::Revoked,
            reason: Some("the build was cancelled while the builder was silent"),
            outcome: None,
        };
        let next = NextTaskState::Ended {
            state: TaskState::Cancelled,
            outcome: Box::new(self.outcome()?),
            counted: false,
        };
        end_attempt(tx, &locked, end, &next).await?;
        Ok(true)
    }

    fn outcome(&self) -> Result<Outcome, StoreError> {
        let row = RowOf::new("attempts", self.id);
        let stage: Option<Stage> = row.parse_some(self.stage.as_deref())?;
        let message = format!(
            "cancelled on request; builder {} had it and was not heard of for {} s",
            self.builder, self.seconds
        );
        let outcome = Outcome::new(OutcomeKind::Cancelled, message);
        Ok(Outcome { stage, ..outcome })
    }
}
