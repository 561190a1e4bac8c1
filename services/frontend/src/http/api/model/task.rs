//! A task: a build in one chroot.

use chrono::{DateTime, Utc};
use millrace_domain::{BuildId, ChrootName, Limit, Outcome, TaskId, TaskState};
use millrace_store::TaskView;
use serde::Serialize;
use utoipa::ToSchema;

use crate::config::links::Links;
use crate::http::api::model::attempt::Attempt;
use crate::http::api::model::wait::WaitReason;

/// A task: one build in one chroot, and the unit of state, retry and result.
#[derive(Debug, Serialize, ToSchema)]
pub struct Task {
    /// Number of the task, unique in this installation.
    pub id: TaskId,
    /// Number of the build that the task belongs to.
    pub build_id: BuildId,
    /// Chroot that the task is built in.
    pub chroot: ChrootName,
    /// Present state; `succeeded`, `failed` and `cancelled` are final.
    pub state: TaskState,
    /// How the task ended; null until it has.
    pub outcome: Option<Outcome>,
    /// The limit that was raised after the task had hit it, in projects with `auto_raise`; null when none was. This
    /// happens at most once for a task.
    pub raised_limit: Option<Limit>,
    /// Attempts that ended in an infrastructure fault, such as a lost builder; with the third the task fails.
    pub attempts_counted: u32,
    /// Attempts at the task, oldest first.
    pub attempts: Vec<Attempt>,
    /// When the task was stored.
    pub created_at: DateTime<Utc>,
    /// When an attempt at it was first claimed; null until then.
    pub started_at: Option<DateTime<Utc>>,
    /// When the task reached its final state; null until then.
    pub ended_at: Option<DateTime<Utc>>,
    /// Whether a cancel was asked for while a builder had the task: the builder is told to stop, and the task ends when
    /// it has.
    pub cancel_requested: bool,
    /// Why the task waits; null unless no builder has it yet, and in the answer to a submission.
    pub wait: Option<WaitReason>,
}

impl Task {
    /// Converts a stored task; `wait` is left for `wait_reason::explain` to fill in.
    pub fn new(view: TaskView, links: &Links) -> Self {
        Self {
            id: view.id,
            build_id: view.build_id,
            chroot: view.chroot,
            state: view.state,
            outcome: view.outcome,
            raised_limit: view.raised_limit,
            attempts: view
                .attempts
                .into_iter()
                .map(|attempt| Attempt::new(attempt, links))
                .collect(),
            attempts_counted: view.attempts_counted,
            created_at: view.created_at,
            started_at: view.started_at,
            ended_at: view.ended_at,
            cancel_requested: view.cancel_requested_at.is_some(),
            wait: None,
        }
    }
}
