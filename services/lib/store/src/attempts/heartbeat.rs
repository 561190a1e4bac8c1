//! What a claimed attempt may do while its lease holds: say that it lives, ship its log, record its files.

use millrace_domain::{AttemptId, AttemptState, BuilderId, Phase, Stage, StageTime, TokenHash};
use sqlx::FromRow;
use sqlx::types::Json;

use crate::attempts::uploads::FileKey;
use crate::builders::blockers::Blockers;
use crate::database::Store;
use crate::error::StoreError;
use crate::row::{RowOf, int4};

/// A builder says what it has.
#[derive(Debug, Clone, PartialEq)]
pub struct Heartbeat {
    /// Who speaks.
    pub builder_id: BuilderId,
    /// Memory left of its offer, in MiB.
    pub free_mib: u32,
    /// Sandboxes left.
    pub free_sandboxes: u32,
    /// What keeps it from work.
    pub hindered: Blockers,
    /// It takes nothing more.
    pub stopping: bool,
    /// The attempts that it has.
    pub attempts: Vec<HeldAttempt>,
    /// How long a claim holds without news.
    pub lease_seconds: u32,
    /// How long it holds once the results are safe on the builder's disk.
    pub finish_lease_seconds: u32,
}

/// How far a builder is with an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldAttempt {
    /// The attempt.
    pub attempt_id: AttemptId,
    /// Digest of its lease token.
    pub lease_token_hash: TokenHash,
    /// How far the builder is.
    pub phase: Phase,
    /// The present stage.
    pub stage: Option<Stage>,
    /// Stages so far.
    pub stages: Vec<StageTime>,
    /// What it waits for although its work is done, as a word.
    pub waits_for: Option<&'static str>,
}

/// What the builder does with an attempt that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeartbeatVerdict {
    /// Go on; the lease was extended.
    Continue,
    /// Stop the work and report it as cancelled.
    Cancel,
    /// The lease is gone: stop and drop everything.
    Revoked,
    /// The report was accepted.
    Accepted,
    /// The report was refused, or will be.
    Refused,
    /// The report came, but these files did not.
    Missing(Vec<FileKey>),
}

#[derive(FromRow)]
struct HeldColumns {
    position: i64,
    state: String,
    is_ours: bool,
    cancel_requested: bool,
    missing: Option<Json<Vec<(i32, String)>>>,
}

/// Attempts are locked in order of id, as everywhere where there are several; no task is locked.
const HEARTBEAT: &str = "
    with seen as (
        update builders set free_mib = $2, free_sandboxes = $3, stopping = $11, last_seen_at = now(),
            disk_free_mib = $12, disk_floor_mib = $13, missing_images = $14
        where id = $1
    ), held as (
        select n.position, n.phase, n.stage, n.stages, n.waits_for, a.id, a.state,
            coalesce(a.lease_token_hash = n.lease and a.builder_id = $1, false) as is_ours,
            t.cancel_requested_at is not null as cancel_requested,
            case when n.phase = 'reported' then (
                select jsonb_agg(jsonb_build_array(m.position, m.name))
                from jsonb_to_recordset(a.missing_files) as m(position integer, name text, sha256 text)
                where not exists (select from result_files r where r.attempt_id = a.id
                    and r.position = m.position and r.name = m.name and r.sha256 = m.sha256)
            ) end as missing
        from unnest($4::uuid[], $5::bytea[], $6::text[], $7::text[], $8::jsonb[], $15::text[]) with ordinality
                as n(attempt_id, lease, phase, stage, stages, waits_for, position)
            join attempts a on a.id = n.attempt_id
            join tasks t on t.id = a.task_id
        order by a.id
        for no key update of a
    ), extended as (
        update attempts a set phase = held.phase, stage = held.stage, stages = held.stages, waits_for = held.waits_for,
            lease_until = greatest(a.lease_until, now() + interval '1 second'
                * case when held.phase in ('spooled', 'reported') then $10 else $9 end)
        from held where a.id = held.id and a.state = 'claimed' and held.is_ours
    )
    select position, state, is_ours, cancel_requested, missing from held";

impl Store {
    /// Notes that the builder lives, extends its leases, and answers for each attempt in the order asked.
    pub async fn heartbeat(
        &self,
        beat: &Heartbeat,
    ) -> Result<Vec<(AttemptId, HeartbeatVerdict)>, StoreError> {
        self.within(async {
            let held = &beat.attempts;
            let rows: Vec<HeldColumns> = sqlx::query_as(HEARTBEAT)
                .bind(beat.builder_id.0)
                .bind(int4(beat.free_mib))
                .bind(int4(beat.free_sandboxes))
                .bind(held.iter().map(|a| a.attempt_id.0).collect::<Vec<_>>())
                .bind(
                    held.iter()
                        .map(|a| a.lease_token_hash.as_bytes())
                        .collect::<Vec<_>>(),
                )
                .bind(held.iter().map(|a| a.phase.as_str()).collect::<Vec<_>>())
                .bind(
                    held.iter()
                        .map(|a| a.stage.map(Stage::as_str))
                        .collect::<Vec<_>>(),
                )
                .bind(held.iter().map(|a| Json(&a.stages)).collect::<Vec<_>>())
                .bind(int4(beat.lease_seconds))
                .bind(int4(beat.finish_lease_seconds))
                .bind(beat.stopping)
                .bind(beat.hindered.disk.map(|disk| int4(disk.free_mib)))
                .bind(beat.hindered.disk.map(|disk| int4(disk.floor_mib)))
                .bind(&beat.hindered.missing_images)
                .bind(held.iter().map(|a| a.waits_for).collect::<Vec<_>>())
                .fetch_all(&self.pool)
                .await?;
            let mut verdicts: Vec<_> = held
                .iter()
                .map(|attempt| (attempt.attempt_id, given_up(attempt.phase)))
                .collect();
            for columns in rows {
                let index = usize::try_from(columns.position - 1).unwrap_or(usize::MAX);
                if let (Some(attempt), Some(slot)) = (held.get(index), verdicts.get_mut(index)) {
                    slot.1 = verdict(attempt, columns)?;
                }
            }
            Ok(verdicts)
        })
        .await
    }

    /// Whether this lease token holds the attempt now.
    pub async fn lease_holds(
        &self,
        attempt: AttemptId,
        lease: &TokenHash,
    ) -> Result<bool, StoreError> {
        self.within(async {
            let holds = sqlx::query_scalar(
                "select exists (select from attempts where id = $1 and state = 'claimed' and lease_token_hash = $2)",
            )
            .bind(attempt.0)
            .bind(lease.as_bytes())
            .fetch_one(&self.pool)
            .await?;
            Ok(holds)
        })
        .await
    }
}

/// For an attempt that is not the caller's.
fn given_up(phase: Phase) -> HeartbeatVerdict {
    match phase {
        Phase::Reported => HeartbeatVerdict::Refused,
        Phase::Fetching | Phase::Building | Phase::Collecting | Phase::Spooled => {
            HeartbeatVerdict::Revoked
        }
    }
}

fn verdict(attempt: &HeldAttempt, columns: HeldColumns) -> Result<HeartbeatVerdict, StoreError> {
    let row = RowOf::new("attempts", attempt.attempt_id);
    let state: AttemptState = row.parse(&columns.state)?;
    Ok(match (state, columns.is_ours) {
        (AttemptState::Finished, true) => HeartbeatVerdict::Accepted,
        (AttemptState::Claimed, true) => {
            let missing = columns.missing.map(|Json(files)| files).unwrap_or_default();
            let name_file = |(position, name): (i32, String)| {
                Ok(FileKey {
                    position: row.number(position)?,
                    name: row.parse(&name)?,
                })
            };
            if !missing.is_empty() {
                HeartbeatVerdict::Missing(
                    missing
                        .into_iter()
                        .map(name_file)
                        .collect::<Result<_, StoreError>>()?,
                )
            } else if columns.cancel_requested && attempt.phase.holds_memory() {
                HeartbeatVerdict::Cancel
            } else {
                HeartbeatVerdict::Continue
            }
        }
        (AttemptState::Offered | AttemptState::Lost | AttemptState::Revoked, _)
        | (AttemptState::Finished | AttemptState::Claimed, false) => given_up(attempt.phase),
    })
}
