//! States of tasks and attempts, and the state of a build computed from its tasks.
//!
//! ```text
//! Task:     waiting ─▶ queued ─▶ running ─▶ succeeded | failed | cancelled   (terminal)
//!              ▲          │         │
//!              └──────────┴─────────┘   next attempt, after an infrastructure fault only
//! Attempt:  offered ─▶ claimed ─▶ finished | lost | revoked
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A word that names none of the expected values, such as one that a newer program wrote to the database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{word}' is no {what}")]
pub struct UnknownWord {
    /// What was expected, such as `task state`.
    pub what: &'static str,
    /// The word that was found.
    pub word: String,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal, { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[derive(schemars::JsonSchema, utoipa::ToSchema)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// All values, in order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word used in tables, messages and JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = $crate::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    other => Err($crate::UnknownWord { what: $what, word: other.to_owned() }),
                }
            }
        }
    };
}
pub(crate) use words;

words! {
    /// How urgent a build is. A waiting task rises by one class for each step of time it has waited, so none starves.
    Priority, "priority", {
        /// Runs only while no build of another class waits; for mass rebuilds.
        Background = "background",
        /// The default for a submission.
        Normal = "normal",
        /// Runs before builds of the other two classes.
        High = "high",
    }
}

words!(
    /// State of a task.
    TaskState, "task state", {
        /// Accepted, not yet released to the broker.
        Waiting = "waiting",
        /// Released to the broker and confirmed.
        Queued = "queued",
        /// Claimed by a builder.
        Running = "running",
        /// All its packages were built or skipped. Terminal.
        Succeeded = "succeeded",
        /// Ended with any other outcome than success, skipped or cancelled. Terminal.
        Failed = "failed",
        /// The requester cancelled it. Terminal.
        Cancelled = "cancelled",
    }
);

words!(
    /// State of an attempt.
    AttemptState, "attempt state", {
        /// Made and on its way to a builder.
        Offered = "offered",
        /// A builder holds the lease.
        Claimed = "claimed",
        /// Its outcome was accepted.
        Finished = "finished",
        /// Its lease ran out.
        Lost = "lost",
        /// Taken back: cancelled, declined, or the offer expired.
        Revoked = "revoked",
    }
);

words!(
    /// State of a build: the first present among its tasks' states, in this order.
    BuildState, "build state", {
        /// A task is running.
        Running = "running",
        /// A task is queued.
        Queued = "queued",
        /// A task is waiting.
        Waiting = "waiting",
        /// At least one task failed, and all have ended.
        Failed = "failed",
        /// A task was cancelled.
        Cancelled = "cancelled",
        /// All tasks of the build succeeded.
        Succeeded = "succeeded",
    }
);

words!(
    /// How far a builder is with a claimed attempt; reported in heartbeats.
    Phase, "phase", {
        /// The builder fetches source packages.
        Fetching = "fetching",
        /// A sandbox is running.
        Building = "building",
        /// Results are taken out of the sandbox.
        Collecting = "collecting",
        /// Results are safe on the builder's spool; the lease becomes the finish-line lease.
        Spooled = "spooled",
        /// The report was confirmed by the broker.
        Reported = "reported",
    }
);

impl TaskState {
    /// Whether the state never changes again.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Waiting | Self::Queued | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }
}

impl Phase {
    /// Whether the attempt still needs memory on its engine.
    pub const fn holds_memory(self) -> bool {
        match self {
            Self::Fetching | Self::Building | Self::Collecting => true,
            Self::Spooled | Self::Reported => false,
        }
    }
}

impl BuildState {
    /// The state of a build with these tasks; a build always has one.
    pub fn of(tasks: impl IntoIterator<Item = TaskState>) -> Self {
        tasks
            .into_iter()
            .map(Self::from)
            .min()
            .unwrap_or(Self::Waiting)
    }

    /// Whether the state never changes again.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Running | Self::Queued | Self::Waiting => false,
            Self::Failed | Self::Cancelled | Self::Succeeded => true,
        }
    }
}

impl From<TaskState> for BuildState {
    fn from(state: TaskState) -> Self {
        match state {
            TaskState::Waiting => Self::Waiting,
            TaskState::Queued => Self::Queued,
            TaskState::Running => Self::Running,
            TaskState::Succeeded => Self::Succeeded,
            TaskState::Failed => Self::Failed,
            TaskState::Cancelled => Self::Cancelled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for state in TaskState::ALL {
            assert_eq!(state.as_str().parse(), Ok(*state));
            assert_eq!(
                serde_json::to_string(state).unwrap(),
                format!("\"{state}\"")
            );
        }
        assert!("done".parse::<AttemptState>().is_err());
    }

    #[test]
    fn a_build_shows_the_first_present_state() {
        use TaskState::{Cancelled, Failed, Queued, Running, Succeeded, Waiting};
        assert_eq!(
            BuildState::of([Succeeded, Failed, Running]),
            BuildState::Running
        );
        assert_eq!(BuildState::of([Waiting, Queued]), BuildState::Queued);
        assert_eq!(BuildState::of([Cancelled, Failed]), BuildState::Failed);
        assert_eq!(
            BuildState::of([Succeeded, Cancelled]),
            BuildState::Cancelled
        );
        assert_eq!(BuildState::of([Succeeded]), BuildState::Succeeded);
    }
}
