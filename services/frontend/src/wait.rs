//! Says why a task waits, in words for a person and one for a script.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use millrace_domain::{TaskId, TaskState};
use millrace_store::{StoreError, Wait};
use serde::Serialize;
use utoipa::ToSchema;

use crate::state::AppState;
use crate::views::Task;

/// Why a task waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct WaitReason {
    /// The reason as a word for scripts.
    pub reason: WaitWord,
    /// The same in a sentence.
    pub message: String,
    /// Tasks whose turn comes first, by their priorities as submitted.
    pub ahead: u64,
    /// Not released before this time.
    pub not_before: Option<DateTime<Utc>>,
}

/// Reasons to wait, in the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitWord {
    /// No live builder offers the architecture.
    NoBuilder,
    /// No live builder is large enough.
    TooLarge,
    /// RabbitMQ is away; nothing is released.
    BrokerAway,
    /// It is released; its order is on the way to RabbitMQ.
    OnItsWay,
    /// An earlier attempt was given back, and the next one keeps its distance.
    BackOff,
    /// The owner has as many tasks under way as it may have.
    OwnerLimit,
    /// Others come first.
    Behind,
    /// Its turn has come; no builder has room.
    BuildersFull,
}

/// Fills in why the waiting ones of these tasks wait.
pub async fn explain(state: &AppState, tasks: &mut [&mut Task]) -> Result<(), StoreError> {
    let waiting: Vec<TaskId> = tasks
        .iter()
        .filter(|task| task.state == TaskState::Waiting)
        .map(|task| task.id)
        .collect();
    let limit = state.settings.config.fairness.owner_running;
    let waits = state.store.waits(&waiting, limit).await?;
    let mut waits: HashMap<TaskId, Wait> = waits.into_iter().map(|w| (w.task_id, w)).collect();
    let broker_up = state.bus.is_up();
    for task in tasks {
        task.wait = waits.remove(&task.id).map(|wait| reason(&wait, broker_up));
    }
    Ok(())
}

fn reason(wait: &Wait, broker_up: bool) -> WaitReason {
    let (word, message) = match wait.largest_mib {
        None => (
            WaitWord::NoBuilder,
            format!("no builder offers the architecture {}", wait.arch),
        ),
        Some(largest) if largest < wait.memory_mib => (
            WaitWord::TooLarge,
            format!(
                "needs {} MB, the largest builder offers {largest} MB",
                wait.memory_mib
            ),
        ),
        Some(_) if !broker_up => (
            WaitWord::BrokerAway,
            "RabbitMQ is away; it goes on by itself when it is back".to_owned(),
        ),
        Some(_) => by_turn(wait),
    };
    WaitReason {
        reason: word,
        message,
        ahead: wait.ahead,
        not_before: wait.not_before,
    }
}

fn by_turn(wait: &Wait) -> (WaitWord, String) {
    if wait.is_offered {
        (
            WaitWord::OnItsWay,
            "released; its order is on the way to RabbitMQ".to_owned(),
        )
    } else if let Some(time) = wait.not_before {
        let time = time.format("%H:%M:%S UTC");
        (WaitWord::BackOff, format!("tried again at {time}"))
    } else if wait.owner_active >= u64::from(wait.owner_limit) {
        (
            WaitWord::OwnerLimit,
            format!(
                "its owner has {} tasks under way, as many as it may have",
                wait.owner_active
            ),
        )
    } else if wait.ahead > 0 {
        let tasks = if wait.ahead == 1 { "task" } else { "tasks" };
        (WaitWord::Behind, format!("behind {} {tasks}", wait.ahead))
    } else {
        (
            WaitWord::BuildersFull,
            "next in turn; no builder has room yet".to_owned(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait() -> Wait {
        Wait {
            task_id: TaskId(1),
            arch: "x86_64".to_owned(),
            memory_mib: 2048,
            largest_mib: Some(16384),
            not_before: None,
            owner_active: 0,
            owner_limit: 4,
            ahead: 0,
            is_offered: false,
        }
    }

    fn word(change: impl FnOnce(&mut Wait), broker_up: bool) -> (WaitWord, String) {
        let mut wait = wait();
        change(&mut wait);
        let reason = reason(&wait, broker_up);
        (reason.reason, reason.message)
    }

    #[test]
    fn the_reason_that_a_person_can_act_on_comes_first() {
        let alone = word(|w| w.largest_mib = None, false);
        assert_eq!(alone.0, WaitWord::NoBuilder);
        let large = word(|w| w.memory_mib = 65536, false);
        assert_eq!(large.0, WaitWord::TooLarge);
        assert_eq!(
            large.1,
            "needs 65536 MB, the largest builder offers 16384 MB"
        );
        assert_eq!(word(|w| w.ahead = 3, false).0, WaitWord::BrokerAway);
        assert_eq!(
            word(|w| w.not_before = Some(Utc::now()), true).0,
            WaitWord::BackOff
        );
        assert_eq!(word(|w| w.is_offered = true, true).0, WaitWord::OnItsWay);
        assert_eq!(word(|w| w.owner_active = 4, true).0, WaitWord::OwnerLimit);
        assert_eq!(word(|w| w.ahead = 3, true).1, "behind 3 tasks");
        assert_eq!(word(|w| w.ahead = 1, true).1, "behind 1 task");
        assert_eq!(word(|_| (), true).0, WaitWord::BuildersFull);
    }
}
