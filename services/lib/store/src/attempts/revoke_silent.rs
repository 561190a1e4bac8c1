//! Cancelled work of a builder that is not heard of: it is taken back without waiting for its lease, at once by the
//! cancel, or by a sweep where the builder falls silent afterwards.
//!
//! Only silence of the builder's own counts. While database or frontends are away no builder is heard of, and
//! afterwards each needs time for a heartbeat: so sweeps must have followed each other for as long as the silence.

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

/// Cancelled attempts whose builders are silent: all, those of a build, or a certain one. The most that one sweep takes
/// back; the next one goes on.
const SILENT: &str = "
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
pub(crate) struct Silent {
    id: Uuid,
    builder: String,
    stage: Option<String>,
    seconds: i64,
}

impl Store {
    /// Takes back cancelled work of builders that fell silent.
    pub(crate) async fn revoke_silent(
        &self,
        silent_seconds: u32,
    ) -> Result<Vec<(TaskId, AttemptId)>, StoreError> {
        let found = self.within(silent(&self.pool, silent_seconds, None, None));
        let mut revoked = Vec::new();
        for candidate in found.await? {
            let attempt = AttemptId(candidate.id);
            let task = self.within(async {
                let mut tx = self.begin().await?;
                let Some(locked) = lock_attempt(&mut tx, attempt).await? else {
                    return Ok(None);
                };
                // Heard again, or ended, before it was locked?
                let still = silent(&mut *tx, silent_seconds, None, Some(attempt)).await?;
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

/// Takes back what silent builders have of a build whose tasks are locked and asked to stop.
pub(crate) async fn revoke_silent_of(
    tx: &mut Tx,
    build: BuildId,
    silent_seconds: u32,
) -> Result<Vec<AttemptId>, StoreError> {
    let mut revoked = Vec::new();
    for silent in silent(&mut **tx, silent_seconds, Some(build), None).await? {
        if silent.revoke(tx).await? {
            revoked.push(AttemptId(silent.id));
        }
    }
    Ok(revoked)
}

async fn silent(
    on: impl PgExecutor<'_>,
    silent_seconds: u32,
    build: Option<BuildId>,
    attempt: Option<AttemptId>,
) -> Result<Vec<Silent>, StoreError> {
    let found = sqlx::query_as(SILENT)
        .bind(int4(silent_seconds))
        .bind(GAP_SECONDS)
        .bind(build.map(|build| build.0))
        .bind(attempt.map(|attempt| attempt.0))
        .fetch_all(on)
        .await?;
    Ok(found)
}

impl Silent {
    /// Ends the attempt and cancels its task; false when the attempt ended just now.
    async fn revoke(&self, tx: &mut Tx) -> Result<bool, StoreError> {
        let id = AttemptId(self.id);
        let locked = match lock_attempt(tx, id).await? {
            Some(locked) if locked.attempt_state == AttemptState::Claimed => locked,
            _ => return Ok(false),
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
