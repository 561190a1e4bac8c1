//! Exit codes that scripts rely on.

use std::process::ExitCode;

use millrace_chassis::ApiError;
use millrace_domain::{BuildState, Origin, TaskState};

use crate::error::UsageError;
use crate::model::{Build, Task};
use crate::render::text::sanitize;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// 0: built, or simply done.
    Done,
    /// 1: a package failed.
    PackageFailed,
    /// 3: an infrastructure fault.
    Infrastructure,
    /// 4: cancelled.
    Cancelled,
}

impl Ending {
    const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::PackageFailed => 1,
            Self::Infrastructure => 3,
            Self::Cancelled => 4,
        }
    }

    /// The ending of a finished build: the first present of 3, 1, 4, 0 among its tasks.
    pub fn of_build(build: &Build) -> Self {
        let endings: Vec<Self> = build.tasks.iter().map(Self::of_task).collect();
        [Self::Infrastructure, Self::PackageFailed, Self::Cancelled]
            .into_iter()
            .find(|ending| endings.contains(ending))
            .unwrap_or(match build.state {
                BuildState::Cancelled => Self::Cancelled,
                BuildState::Failed => Self::PackageFailed,
                BuildState::Succeeded
                | BuildState::Running
                | BuildState::Queued
                | BuildState::Waiting => Self::Done,
            })
    }

    fn of_task(task: &Task) -> Self {
        match task.state {
            TaskState::Succeeded | TaskState::Waiting | TaskState::Queued | TaskState::Running => {
                Self::Done
            }
            TaskState::Cancelled => Self::Cancelled,
            TaskState::Failed => match task.outcome.as_ref().map(|o| o.kind.origin()) {
                Some(Origin::Infrastructure) => Self::Infrastructure,
                Some(Origin::Requester) => Self::Cancelled,
                Some(Origin::Package | Origin::Nobody) | None => Self::PackageFailed,
            },
        }
    }
}

/// Prints an error to stderr and turns the result into the process's exit code.
pub fn code_of(result: anyhow::Result<Ending>) -> ExitCode {
    match result {
        Ok(ending) => ExitCode::from(ending.code()),
        Err(error) => {
            eprintln!("{}", message(&error));
            ExitCode::from(code_of_error(&error))
        }
    }
}

/// The error with its causes in one line; the server's part of it may hold anything.
fn message(error: &anyhow::Error) -> String {
    format!("millrace: {}", sanitize(&format!("{error:#}")))
}

/// 2 for what the caller can mend: the usage, the server's address, or a request that the server refuses. 3 for the
/// rest; a request that came too often (429) is fine a little later, so it counts there.
fn code_of_error(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<UsageError>().is_some() {
        return 2;
    }
    match error.downcast_ref::<ApiError>() {
        Some(ApiError::BadBase { .. }) => 2,
        Some(ApiError::Problem(problem)) => match problem.status {
            429 => 3,
            400..500 => 2,
            _ => 3,
        },
        Some(
            ApiError::Unreachable { .. }
            | ApiError::TimedOut { .. }
            | ApiError::BadAnswer { .. }
            | ApiError::Client(_),
        )
        | None => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ServiceError;
    use millrace_domain::{Outcome, OutcomeKind};

    fn build(outcomes: &[OutcomeKind]) -> Build {
        let tasks = outcomes
            .iter()
            .map(|kind| Task {
                id: 1,
                chroot: "a-1-b".to_owned(),
                state: if kind.is_success() {
                    TaskState::Succeeded
                } else if *kind == OutcomeKind::Cancelled {
                    TaskState::Cancelled
                } else {
                    TaskState::Failed
                },
                raised_limit: None,
                outcome: Some(Outcome::new(*kind, "x")),
                attempts: Vec::new(),
                wait: None,
            })
            .collect();
        Build {
            tasks,
            ..Build::default()
        }
    }

    #[test]
    fn the_gravest_task_decides() {
        use OutcomeKind::{BuildFailed, Cancelled, SandboxFailed, Skipped, Succeeded};
        assert_eq!(
            Ending::of_build(&build(&[Succeeded, Skipped])),
            Ending::Done
        );
        assert_eq!(
            Ending::of_build(&build(&[Succeeded, Cancelled])),
            Ending::Cancelled
        );
        assert_eq!(
            Ending::of_build(&build(&[Cancelled, BuildFailed])),
            Ending::PackageFailed
        );
        assert_eq!(
            Ending::of_build(&build(&[BuildFailed, SandboxFailed])),
            Ending::Infrastructure
        );
    }

    #[test]
    fn usage_is_2_and_a_missing_server_3() {
        assert_eq!(code_of_error(&UsageError("x".to_owned()).into()), 2);
        assert_eq!(code_of_error(&ServiceError("x".to_owned()).into()), 3);
        let refused = millrace_chassis::Problem::new(404, "unknown", "unknown build");
        assert_eq!(
            code_of_error(&ApiError::Problem(Box::new(refused)).into()),
            2
        );
        let away = millrace_chassis::Problem::new(503, "unavailable", "database away");
        assert_eq!(code_of_error(&ApiError::Problem(Box::new(away)).into()), 3);
    }
}
