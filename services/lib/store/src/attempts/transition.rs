//! How an attempt's end moves its task. Every end but a cancel before the claim passes here.
//!
//! ```text
//! Task:     waiting ─▶ queued ─▶ running ─▶ succeeded | failed | cancelled   (terminal)
//!              ▲          │         │
//!              └──────────┴─────────┘   put back, next attempt after a fault of ours, at most 3, or once with a
//!                                       larger limit
//! Attempt:  offered ─▶ claimed ─▶ finished | lost | revoked
//! ```

use millrace_domain::{
    AttemptId, AttemptState, BuilderId, Origin, Outcome, OutcomeKind, TaskState,
};
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::database::Tx;
use crate::error::StoreError;
use crate::row::RowOf;

/// Attempts that may end in a fault of ours before the task fails with it.
const COUNTED_ATTEMPTS: u32 = 3;

/// An attempt and its task, both locked.
pub(crate) struct Locked {
    pub(crate) task_id: i64,
    pub(crate) task_state: TaskState,
    pub(crate) is_current: bool,
    pub(crate) counted: u32,
    /// Attempts made at all, this one included.
    pub(crate) made: u32,
    pub(crate) cancel_requested: bool,
    pub(crate) attempt_id: AttemptId,
    pub(crate) attempt_state: AttemptState,
    pub(crate) builder: Option<BuilderId>,
    pub(crate) lease_token_hash: Option<Vec<u8>>,
}

impl Locked {
    /// Whether the attempt can still be taken back.
    pub(crate) fn is_alive(&self) -> bool {
        match self.attempt_state {
            AttemptState::Offered | AttemptState::Claimed => true,
            AttemptState::Finished | AttemptState::Lost | AttemptState::Revoked => false,
        }
    }
}

/// How the attempt ends.
pub(crate) struct End<'a> {
    pub(crate) state: AttemptState,
    pub(crate) reason: Option<&'a str>,
    pub(crate) outcome: Option<&'a Outcome>,
}

/// What becomes of the task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Next {
    /// It is over.
    Ended {
        state: TaskState,
        outcome: Box<Outcome>,
        counted: bool,
    },
    /// It waits again, uncounted, because nobody failed.
    PutBack { delay_ms: i32 },
    /// It waits for another builder, after a fault of ours.
    Again { delay_ms: i32 },
    /// It waits again, uncounted, with a larger limit.
    Raised,
}

impl Next {
    /// After an outcome that a builder reported, or that its silence made.
    pub(crate) fn after(task: &Locked, outcome: &Outcome) -> Self {
        let ended = |state, outcome: Outcome, counted| Self::Ended {
            state,
            outcome: Box::new(outcome),
            counted,
        };
        match (outcome.kind.origin(), task.cancel_requested) {
            // Work that was done is kept, also when a cancel came too late for it.
            (Origin::Nobody, _) => ended(TaskState::Succeeded, outcome.clone(), false),
            (Origin::Requester, _) => ended(TaskState::Cancelled, outcome.clone(), false),
            (Origin::Package | Origin::Infrastructure, true) => {
                ended(TaskState::Cancelled, cancelled_after(outcome), false)
            }
            (Origin::Package, false) => ended(TaskState::Failed, outcome.clone(), false),
            (Origin::Infrastructure, false) if task.counted + 1 >= COUNTED_ATTEMPTS => {
                ended(TaskState::Failed, outcome.clone(), true)
            }
            (Origin::Infrastructure, false) => Self::Again {
                delay_ms: retry_delay_ms(task),
            },
        }
    }

    /// After an offer or a claim that was given back.
    pub(crate) fn handed_back(task: &Locked, delay_ms: i32) -> Self {
        if task.cancel_requested {
            let outcome = Outcome::new(OutcomeKind::Cancelled, "cancelled on request");
            Self::Ended {
                state: TaskState::Cancelled,
                outcome: Box::new(outcome),
                counted: false,
            }
        } else {
            Self::PutBack { delay_ms }
        }
    }

    pub(crate) fn task_state(&self) -> TaskState {
        match self {
            Self::Ended { state, .. } => *state,
            Self::PutBack { .. } | Self::Again { .. } | Self::Raised => TaskState::Waiting,
        }
    }
}

/// 2 s after the first fault and 8 s after the second.
fn retry_delay_ms(task: &Locked) -> i32 {
    let faults = i32::try_from(task.counted).unwrap_or(i32::MAX).min(10) + 1;
    spread(2000 * faults * faults, task)
}

/// The first delay of an order that was given back, twice as much for the next, and four times as much from then on.
pub(crate) fn hand_back_delay_ms(first_ms: i32, task: &Locked) -> i32 {
    let earlier = task.made.saturating_sub(task.counted + 1);
    spread(first_ms << earlier.min(2), task)
}

/// The same for an order whose image the builder lacks: a second, and twice as much each time, up to a minute.
pub(crate) fn image_delay_ms(task: &Locked) -> i32 {
    let earlier = task.made.saturating_sub(task.counted + 1);
    spread((1000 << earlier.min(6)).min(48_000), task)
}

/// A quarter more or less, so that tasks that were put back together do not come back together. The attempt's id is
/// random enough for that.
fn spread(base_ms: i32, task: &Locked) -> i32 {
    let chance = i32::from(task.attempt_id.0.as_bytes()[15]);
    base_ms * 3 / 4 + base_ms * chance / 512
}

fn cancelled_after(outcome: &Outcome) -> Outcome {
    Outcome {
        kind: OutcomeKind::Cancelled,
        message: format!(
            "cancelled on request; the last attempt had ended as {}: {}",
            outcome.kind, outcome.message
        ),
        suggested_limit: None,
        ..outcome.clone()
    }
}

#[derive(FromRow)]
struct LockedColumns {
    task_id: i64,
    task_state: String,
    is_current: bool,
    attempts_counted: i32,
    attempts_made: i32,
    cancel_requested: bool,
    attempt_state: String,
    builder_id: Option<Uuid>,
    lease_token_hash: Option<Vec<u8>>,
}

/// Locks the attempt's task, then the attempt, and reads them as they are under the lock.
pub(crate) async fn lock(tx: &mut Tx, attempt_id: AttemptId) -> Result<Option<Locked>, StoreError> {
    let columns: Option<LockedColumns> = sqlx::query_as(
        "select t.id as task_id, t.state as task_state, t.current_attempt is not distinct from a.id as is_current,
             t.attempts_counted, t.attempts_made, t.cancel_requested_at is not null as cancel_requested,
             a.state as attempt_state, a.builder_id, a.lease_token_hash
         from attempts a join tasks t on t.id = a.task_id
         where a.id = $1
         -- In this order; rows changed since the statement began are read again once they are locked.
         for no key update of t, a",
    )
    .bind(attempt_id.0)
    .fetch_optional(&mut **tx)
    .await?;
    columns
        .map(|columns| locked(attempt_id, columns))
        .transpose()
}

fn locked(attempt_id: AttemptId, columns: LockedColumns) -> Result<Locked, StoreError> {
    let task = RowOf::new("tasks", columns.task_id);
    Ok(Locked {
        task_id: columns.task_id,
        task_state: task.parse(&columns.task_state)?,
        is_current: columns.is_current,
        counted: task.number(columns.attempts_counted)?,
        made: task.number(columns.attempts_made)?,
        cancel_requested: columns.cancel_requested,
        attempt_id,
        attempt_state: RowOf::new("attempts", attempt_id).parse(&columns.attempt_state)?,
        builder: columns.builder_id.map(BuilderId),
        lease_token_hash: columns.lease_token_hash,
    })
}

/// Ends a live attempt and moves its task, both guarded by the states that were read under the lock.
pub(crate) async fn settle(
    tx: &mut Tx,
    locked: &Locked,
    end: End<'_>,
    next: &Next,
) -> Result<(), StoreError> {
    let (outcome, counted, delay_ms) = match next {
        Next::Ended {
            outcome, counted, ..
        } => (Some(Json(outcome)), *counted, 0),
        Next::PutBack { delay_ms } => (None, false, *delay_ms),
        Next::Again { delay_ms } => (None, true, *delay_ms),
        Next::Raised => (None, false, 0),
    };
    let moved: i64 = sqlx::query_scalar(
        "with ended as (
            update attempts set state = $3, reason = $4, outcome = $5, ended_at = now()
            where id = $1 and state = $2
            returning task_id
        ), unpublished as (
            delete from outbox where attempt_id = $1
        ), moved as (
            update tasks t set
                state = $7,
                outcome = $8,
                ended_at = case when $8::jsonb is not null then now() end,
                current_attempt = case when $8::jsonb is not null then t.current_attempt end,
                attempts_counted = t.attempts_counted + $9::boolean::integer,
                avoid = case when not $9 or $10::uuid is null or $10 = any(t.avoid) then t.avoid
                        else t.avoid || $10 end,
                waiting_since = case when $9 then now() else t.waiting_since end,
                not_before = now() + $11 * interval '1 millisecond',
                delayed = $11 > 0 or t.held is not null,
                lacks_image = false
            where t.id = (select task_id from ended) and t.state = $6 and t.current_attempt = $1
            returning t.id
        )
        select count(*) from moved",
    )
    .bind(locked.attempt_id.0)
    .bind(locked.attempt_state.as_str())
    .bind(end.state.as_str())
    .bind(end.reason)
    .bind(end.outcome.map(Json))
    .bind(locked.task_state.as_str())
    .bind(next.task_state().as_str())
    .bind(outcome)
    .bind(counted)
    .bind(locked.builder.map(|id| id.0))
    .bind(delay_ms)
    .fetch_one(&mut **tx)
    .await?;
    if moved == 1 {
        Ok(())
    } else {
        let problem = format!(
            "attempt {} ({}) could not be ended as {} with its task {}",
            locked.attempt_id, locked.attempt_state, end.state, locked.task_state
        );
        Err(StoreError::inconsistent(
            "tasks",
            locked.task_id.to_string(),
            problem,
        ))
    }
}

/// Revokes a live attempt without counting it.
pub(crate) async fn put_back(
    tx: &mut Tx,
    locked: &Locked,
    reason: &str,
    delay_ms: i32,
) -> Result<(), StoreError> {
    let end = End {
        state: AttemptState::Revoked,
        reason: Some(reason),
        outcome: None,
    };
    settle(tx, locked, end, &Next::handed_back(locked, delay_ms)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(counted: u32, cancel_requested: bool) -> Locked {
        Locked {
            task_id: 1,
            task_state: TaskState::Running,
            is_current: true,
            counted,
            made: counted + 1,
            cancel_requested,
            attempt_id: AttemptId(Uuid::nil()),
            attempt_state: AttemptState::Claimed,
            builder: None,
            lease_token_hash: None,
        }
    }

    fn state_after(kind: OutcomeKind, counted: u32, cancel_requested: bool) -> TaskState {
        Next::after(&task(counted, cancel_requested), &Outcome::new(kind, "x")).task_state()
    }

    #[test]
    fn only_faults_of_ours_lead_to_another_attempt_and_only_twice() {
        for kind in OutcomeKind::ALL {
            let again = state_after(*kind, 0, false) == TaskState::Waiting;
            assert_eq!(again, kind.is_retried(), "{kind}");
        }
        assert_eq!(
            state_after(OutcomeKind::BuilderLost, 1, false),
            TaskState::Waiting
        );
        assert_eq!(
            state_after(OutcomeKind::BuilderLost, 2, false),
            TaskState::Failed
        );
    }

    #[test]
    fn retries_keep_a_growing_distance_that_differs() {
        let delay = |counted, byte| {
            let mut locked = task(counted, false);
            locked.attempt_id = AttemptId(Uuid::from_bytes([byte; 16]));
            match Next::after(&locked, &Outcome::new(OutcomeKind::BuilderLost, "x")) {
                Next::Again { delay_ms } => delay_ms,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((delay(0, 0), delay(1, 0)), (1500, 6000));
        assert!((2450..=2500).contains(&delay(0, 255)));
        assert!((9800..=10_000).contains(&delay(1, 255)));
    }

    #[test]
    fn an_order_that_is_given_back_again_and_again_keeps_a_growing_distance_that_is_bounded() {
        let delay = |made| {
            let mut locked = task(1, false);
            locked.made = made;
            hand_back_delay_ms(1000, &locked)
        };
        let delays: Vec<i32> = [2, 3, 4, 5, 400].map(delay).into();
        assert_eq!(delays, [750, 1500, 3000, 3000, 3000]);
    }

    #[test]
    fn an_order_whose_image_is_missing_comes_back_within_a_minute() {
        let mut locked = task(0, false);
        let mut delay = |made, byte| {
            locked.made = made;
            locked.attempt_id = AttemptId(Uuid::from_bytes([byte; 16]));
            image_delay_ms(&locked)
        };
        assert_eq!((delay(1, 0), delay(2, 0), delay(4, 0)), (750, 1500, 6000));
        assert!((59_000..=60_000).contains(&delay(500, 255)));
    }

    #[test]
    fn after_a_requested_cancel_only_a_success_is_not_cancelled() {
        for kind in OutcomeKind::ALL {
            let wanted = if kind.is_success() {
                TaskState::Succeeded
            } else {
                TaskState::Cancelled
            };
            assert_eq!(state_after(*kind, 0, true), wanted, "{kind}");
        }
        let Next::Ended { outcome, .. } =
            Next::after(&task(0, true), &Outcome::new(OutcomeKind::BuildFailed, "x"))
        else {
            panic!("a cancelled task is over")
        };
        assert_eq!(outcome.kind, OutcomeKind::Cancelled);
    }

    #[test]
    fn what_was_handed_back_waits_unless_it_is_cancelled() {
        assert_eq!(
            Next::handed_back(&task(0, false), 5),
            Next::PutBack { delay_ms: 5 }
        );
        assert_eq!(
            Next::handed_back(&task(0, true), 5).task_state(),
            TaskState::Cancelled
        );
    }
}
