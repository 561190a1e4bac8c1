//! Exit codes that scripts rely on.

use std::process::ExitCode;

use millrace_chassis::ApiError;
use millrace_domain::{BuildState, Origin, TaskState};

use crate::model::{Build, Task};

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

/// Wrong usage, told in one sentence; exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// The server cannot be used for a reason of ours or its own; exit code 3.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub String);

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
            eprintln!("millrace: {}", crate::render::plain(&format!("{error:#}")));
            ExitCode::from(code_of_error(&error))
        }
    }
}

/// 2 for what the caller can mend, 3 for the rest.
fn code_of_error(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<Usage>().is_some() {
        return 2;
    }
    match error.downcast_ref::<ApiError>() {
        Some(ApiError::BadBase { .. }) => 2,
        Some(api)
            if api
                .status()
                .is_some_and(|s| (400..500).contains(&s) && s != 429) =>
        {
            2
        }
        Some(_) | None => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert_eq!(code_of_error(&Usage("x".to_owned()).into()), 2);
        assert_eq!(code_of_error(&Fault("x".to_owned()).into()), 3);
        let refused = millrace_chassis::Problem::new(404, "unknown", "unknown build");
        assert_eq!(
            code_of_error(&ApiError::Problem(Box::new(refused)).into()),
            2
        );
        let away = millrace_chassis::Problem::new(503, "unavailable", "database away");
        assert_eq!(code_of_error(&ApiError::Problem(Box::new(away)).into()), 3);
    }
}
