//! Claiming: the one place where an attempt gets its builder. Several builders may hold a copy of the same
//! order; the first one here wins, and the broker's opinion does not matter.
//!
//! A claim may come before the relay has recorded the broker's confirm: both orders work.

use millrace_domain::{AttemptId, AttemptState, BuilderId, TaskState, TokenHash};
use sqlx::FromRow;
use uuid::Uuid;

use crate::attempts::transition::{Locked, hand_back_delay_ms, lock, put_back};
use crate::database::Store;
use crate::database::Tx;
use crate::error::StoreError;
use crate::row::{RowOf, int4};

/// How long an order that this builder may not or cannot take stays away from the broker, the first time.
const REFUSED_DELAY_MS: i32 = 1000;
const DECLINED_DELAY_MS: i32 = 500;

/// A builder asks for an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimInput {
    /// Who asks.
    pub builder_id: BuilderId,
    /// For what.
    pub attempt_id: AttemptId,
    /// Digest of the claim's nonce, by which a repeated claim is known.
    pub nonce_hash: TokenHash,
    /// Digest of the lease token that is given; the same for the same nonce.
    pub lease_token_hash: TokenHash,
    /// How long the claim holds without news.
    pub lease_seconds: u32,
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// The attempt is the builder's.
    Granted {
        /// Whether an earlier call with the same nonce had got it.
        already: bool,
    },
    /// Another builder, or another claim of this one, holds it.
    Taken,
    /// An earlier attempt failed on this builder, and another one can take it. The task was put back.
    Avoid,
    /// The engine's memory is promised to others, or the builder is drained or set aside. The task was put back.
    NoRoom,
    /// The attempt was taken back, is over, or never existed.
    Revoked,
}

#[derive(FromRow)]
struct OfferColumns {
    task_id: i64,
    task_state: String,
    is_current: bool,
    attempts_counted: i32,
    attempts_made: i32,
    attempt_state: String,
    builder_id: Option<Uuid>,
    claim_nonce_hash: Option<Vec<u8>>,
    engine_id: String,
    budget_mib: i32,
    is_avoided: bool,
    resting: Option<String>,
}

/// Locks task, attempt and engine, in this order. The engine's lock makes grants of its memory take turns.
const LOCK_OFFER: &str = "
    select t.id as task_id, t.state as task_state, t.current_attempt is not distinct from a.id as is_current,
        t.attempts_counted, t.attempts_made, a.state as attempt_state, a.builder_id, a.claim_nonce_hash,
        e.id as engine_id, e.budget_mib,
        $2 = any(t.avoid) and t.waiting_since > now() - interval '60 seconds' and exists (
            select from ready_builders o
            where o.id <> all(t.avoid) and t.arch = any(o.archs) and o.memory_mib >= t.memory_mib
                and o.disk_floor_mib is null) as is_avoided,
        case when b.drained_at is not null then 'drained' when b.set_aside_at is not null then 'set aside' end as resting
    from attempts a join tasks t on t.id = a.task_id, builders b join engines e on e.id = b.engine_id
    where a.id = $1 and b.id = $2
    for no key update of t, a, e";

/// Grants only within the engine's budget, less what is kept free of it, which a statement that begins after the engine was locked sees whole.
const GRANT: &str = "
    with used as (
        select coalesce(sum(a.memory_mib), 0) as memory_mib
        from attempts a join builders b on b.id = a.builder_id
        where b.engine_id = $6 and a.state = 'claimed' and a.phase in ('fetching', 'building', 'collecting')
    ), kept as (
        -- What drains for a large task must not go to a smaller one.
        select coalesce(sum(k.memory_mib), 0) as memory_mib
        from reservations k join builders b on b.id = k.builder_id cross join lateral (
            select t.current_attempt from tasks t where t.id = k.task_id and t.state in ('waiting', 'queued') limit 1) t
        where b.engine_id = $6 and t.current_attempt is distinct from $1
    ), granted as (
        update attempts a set state = 'claimed', builder_id = $2, claim_nonce_hash = $3, lease_token_hash = $4,
            lease_until = now() + $5 * interval '1 second', claimed_at = now(), phase = 'fetching'
        from used, kept
        where a.id = $1 and a.state = 'offered' and used.memory_mib + kept.memory_mib + a.memory_mib <= $7
        returning a.task_id
    ), started as (
        update tasks t set state = 'running', started_at = coalesce(t.started_at, now())
        where t.id = (select task_id from granted) and t.state in ('waiting', 'queued') and t.current_attempt = $1
        returning t.build_id
    ), noted as (
        update builds b set first_claim_at = now()
        where b.id = (select build_id from started) and b.first_claim_at is null
    ), unpublished as (
        delete from outbox where attempt_id = $1 and exists (select from granted)
    )
    select (select count(*) from granted), (select count(*) from started)";

impl Store {
    /// Gives an offered attempt to the first builder that asks, once.
    pub async fn claim(&self, input: &ClaimInput) -> Result<ClaimOutcome, StoreError> {
        self.within(async {
            let mut tx = self.begin().await?;
            let outcome = claim(&mut tx, input).await?;
            tx.commit().await?;
            Ok(outcome)
        })
        .await
    }

    /// Takes back an order that a builder cannot take after all; with the lease token, one that it had claimed.
    /// Says whether the task was put back: an answer to an order that someone else has changes nothing.
    pub async fn decline(
        &self,
        builder: BuilderId,
        attempt: AttemptId,
        lease_token_hash: Option<&TokenHash>,
        reason: &str,
    ) -> Result<bool, StoreError> {
        self.within(async {
            let mut tx = self.begin().await?;
            let Some(locked) = lock(&mut tx, attempt).await? else {
                return Ok(false);
            };
            let delay_ms = match locked.attempt_state {
                AttemptState::Offered => hand_back_delay_ms(DECLINED_DELAY_MS, &locked),
                AttemptState::Claimed if holds(&locked, builder, lease_token_hash) => 0,
                AttemptState::Claimed
                | AttemptState::Finished
                | AttemptState::Lost
                | AttemptState::Revoked => return Ok(false),
            };
            let reason = if locked.cancel_requested {
                "handed back: the build was cancelled"
            } else {
                reason
            };
            put_back(&mut tx, &locked, reason, delay_ms).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }
}

fn holds(locked: &Locked, builder: BuilderId, lease: Option<&TokenHash>) -> bool {
    let stored = locked.lease_token_hash.as_deref();
    locked.builder == Some(builder)
        && lease
            .zip(stored)
            .is_some_and(|(lease, stored)| lease.matches(stored))
}

async fn claim(tx: &mut Tx, input: &ClaimInput) -> Result<ClaimOutcome, StoreError> {
    let offer: Option<OfferColumns> = sqlx::query_as(LOCK_OFFER)
        .bind(input.attempt_id.0)
        .bind(input.builder_id.0)
        .fetch_optional(&mut **tx)
        .await?;
    let Some(offer) = offer else {
        return Ok(ClaimOutcome::Revoked);
    };
    let state: AttemptState =
        RowOf::new("attempts", input.attempt_id).parse(&offer.attempt_state)?;
    match state {
        AttemptState::Offered => answer_offer(tx, input, &offer).await,
        AttemptState::Claimed if is_repeat(input, &offer) => repeat_grant(tx, input).await,
        AttemptState::Claimed => Ok(ClaimOutcome::Taken),
        AttemptState::Finished | AttemptState::Lost | AttemptState::Revoked => {
            Ok(ClaimOutcome::Revoked)
        }
    }
}

fn is_repeat(input: &ClaimInput, offer: &OfferColumns) -> bool {
    offer.builder_id == Some(input.builder_id.0)
        && offer
            .claim_nonce_hash
            .as_deref()
            .is_some_and(|stored| input.nonce_hash.matches(stored))
}

/// The answer was lost. The token is stored again, in case the frontend derives another one by now.
async fn repeat_grant(tx: &mut Tx, input: &ClaimInput) -> Result<ClaimOutcome, StoreError> {
    sqlx::query(
        "update attempts set lease_token_hash = $2,
             lease_until = greatest(lease_until, now() + $3 * interval '1 second')
         where id = $1 and state = 'claimed'",
    )
    .bind(input.attempt_id.0)
    .bind(input.lease_token_hash.as_bytes())
    .bind(int4(input.lease_seconds))
    .execute(&mut **tx)
    .await?;
    Ok(ClaimOutcome::Granted { already: true })
}

async fn answer_offer(
    tx: &mut Tx,
    input: &ClaimInput,
    offer: &OfferColumns,
) -> Result<ClaimOutcome, StoreError> {
    let row = RowOf::new("tasks", offer.task_id);
    let task_state: TaskState = row.parse(&offer.task_state)?;
    if !offer.is_current {
        return Err(row.fault(format!(
            "attempt {} is on offer but not current",
            input.attempt_id
        )));
    }
    let locked = Locked {
        task_id: offer.task_id,
        task_state,
        is_current: true,
        counted: row.number(offer.attempts_counted)?,
        made: row.number(offer.attempts_made)?,
        cancel_requested: false,
        attempt_id: input.attempt_id,
        attempt_state: AttemptState::Offered,
        builder: None,
        lease_token_hash: None,
    };
    let delay_ms = hand_back_delay_ms(REFUSED_DELAY_MS, &locked);
    if let Some(resting) = &offer.resting {
        let reason = format!("the builder that asked is {resting}");
        put_back(tx, &locked, &reason, delay_ms).await?;
        return Ok(ClaimOutcome::NoRoom);
    }
    if offer.is_avoided {
        let reason = "an earlier attempt failed on the builder that asked";
        put_back(tx, &locked, reason, delay_ms).await?;
        return Ok(ClaimOutcome::Avoid);
    }
    let (granted, started): (i64, i64) = sqlx::query_as(GRANT)
        .bind(input.attempt_id.0)
        .bind(input.builder_id.0)
        .bind(input.nonce_hash.as_bytes())
        .bind(input.lease_token_hash.as_bytes())
        .bind(int4(input.lease_seconds))
        .bind(&offer.engine_id)
        .bind(i64::from(offer.budget_mib))
        .fetch_one(&mut **tx)
        .await?;
    match (granted, started) {
        (1, 1) => Ok(ClaimOutcome::Granted { already: false }),
        (0, 0) => {
            let reason = "the engine's memory is promised to others";
            put_back(tx, &locked, reason, delay_ms).await?;
            Ok(ClaimOutcome::NoRoom)
        }
        _ => Err(row.fault(format!(
            "an attempt of it is on offer, but it is {task_state}"
        ))),
    }
}
