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
pub(crate) fn code_of_error(error: &anyhow::Error) -> u8 {
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
    use crate::client::Client;
    use crate::error::ServiceError;
    use crate::retry::Timing;
    use crate::testing::build;
    use crate::testing::server::{self, Server};
    use axum::response::Response;
    use millrace_chassis::ApiClient;
    use millrace_domain::OutcomeKind;
    use serde_json::{Value, json};

    /// A build whose tasks ended with these outcomes.
    fn ended_with(outcomes: &[OutcomeKind]) -> Build {
        let task = |kind: &OutcomeKind| {
            let state = match kind.origin() {
                Origin::Nobody => "succeeded",
                Origin::Requester => "cancelled",
                Origin::Package | Origin::Infrastructure => "failed",
            };
            json!({"id": 1, "chroot": "a-1-b", "state": state, "outcome": {"kind": kind, "message": "x"}})
        };
        let tasks: Vec<Value> = outcomes.iter().map(task).collect();
        build(
            &json!({"id": 7, "state": "succeeded", "submitted_at": "2026-01-02T03:04:05Z", "tasks": tasks}),
        )
    }

    #[test]
    fn the_gravest_task_decides() {
        use OutcomeKind::{BuildFailed, Cancelled, SandboxFailed, Skipped, Succeeded};
        for (outcomes, code) in [
            (&[Succeeded, Skipped][..], 0),
            (&[Succeeded, Cancelled], 4),
            (&[Cancelled, BuildFailed], 1),
            (&[BuildFailed, SandboxFailed], 3),
            (&[SandboxFailed, Cancelled, BuildFailed, Succeeded], 3),
            (&[Succeeded, Cancelled, BuildFailed], 1),
        ] {
            let ending = Ending::of_build(&ended_with(outcomes));
            assert_eq!(ending.code(), code, "{outcomes:?}");
        }
    }

    #[test]
    fn each_outcome_has_the_code_of_whose_matter_it_is() {
        for kind in OutcomeKind::ALL {
            let code = match kind.origin() {
                Origin::Nobody => 0,
                Origin::Package => 1,
                Origin::Infrastructure => 3,
                Origin::Requester => 4,
            };
            let ending = Ending::of_build(&ended_with(&[*kind]));
            assert_eq!(ending.code(), code, "{kind}");
        }
    }

    #[test]
    fn a_failed_task_without_an_outcome_is_a_failed_package() {
        let mut build = ended_with(&[OutcomeKind::BuildFailed]);
        build.tasks[0].outcome = None;
        assert_eq!(Ending::of_build(&build), Ending::PackageFailed);
    }

    #[test]
    fn a_build_without_tasks_ends_as_its_state_says() {
        let mut build = ended_with(&[]);
        for (state, ending) in [
            (BuildState::Succeeded, Ending::Done),
            (BuildState::Failed, Ending::PackageFailed),
            (BuildState::Cancelled, Ending::Cancelled),
        ] {
            build.state = state;
            assert_eq!(Ending::of_build(&build), ending);
        }
    }

    #[test]
    fn usage_is_2_and_a_missing_server_3() {
        assert_eq!(code_of_error(&UsageError("x".to_owned()).into()), 2);
        assert_eq!(code_of_error(&ServiceError("x".to_owned()).into()), 3);
        assert_eq!(code_of_error(&anyhow::anyhow!("disk full")), 3);
        let in_context = anyhow::Error::from(UsageError("x".to_owned())).context("file");
        assert_eq!(code_of_error(&in_context), 2);
    }

    #[test]
    fn a_refused_request_is_2_and_a_server_that_fails_or_is_busy_3() {
        for (status, code) in [
            (400, 2),
            (401, 2),
            (404, 2),
            (409, 2),
            (422, 2),
            (429, 3),
            (500, 3),
            (503, 3),
        ] {
            let problem = millrace_chassis::Problem::new(status, "x", "x");
            let error = ApiError::Problem(Box::new(problem)).into();
            assert_eq!(code_of_error(&error), code, "{status}");
        }
    }

    /// What a person sees of a request that is answered so, and the exit code.
    async fn seen(answer: impl Fn() -> Response + Send + Sync + 'static) -> (String, u8) {
        let server = Server::start(move |_| answer()).await;
        let (text, code) = seen_of(server.url()).await;
        let address = server.url().trim_start_matches("http://");
        (text.replace(address, "HOST"), code)
    }

    async fn seen_of(url: &str) -> (String, u8) {
        let api = ApiClient::new(url, None).unwrap();
        let client = Client::new(api, Timing::default());
        let error = client.get::<Value>("/api/v1/builds/7").await.unwrap_err();
        (message(&error), code_of_error(&error))
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_the_servers_words() {
        for (status, problem, told) in [
            (
                401,
                json!({"title": "a token is needed", "detail": "give a token for writing"}),
                "give a token for writing",
            ),
            (404, json!({"title": "unknown build"}), "unknown build"),
            (
                409,
                json!({"title": "conflict", "detail": "the key was used for another build"}),
                "the key was used for another build",
            ),
            (
                422,
                json!({"title": "a field is not valid", "field": "timeout", "detail": "timeout is -1 s", "accepted": "10 to 604800"}),
                "timeout: timeout is -1 s; accepted: 10 to 604800",
            ),
        ] {
            let (text, code) = seen(move || server::problem(status, &problem)).await;
            assert_eq!((text, code), (format!("millrace: {told}"), 2));
        }
    }

    #[tokio::test]
    async fn a_failure_is_told_with_the_id_of_its_log_entry() {
        let problem = json!({"title": "internal error", "id": "01ab"});
        let (text, code) = seen(move || server::problem(500, &problem)).await;
        let told = "millrace: internal error (error id 01ab in the server's log)";
        assert_eq!((text.as_str(), code), (told, 3));
    }

    #[tokio::test]
    async fn a_proxy_that_answers_in_place_of_the_server_is_told_by_its_status() {
        let (text, code) = seen(|| server::answer(502, "text/html", "<html>")).await;
        let told = "millrace: HOST answered with status 502 Bad Gateway";
        assert_eq!((text.as_str(), code), (told, 3));
    }

    #[tokio::test]
    async fn a_server_that_is_none_of_ours_is_asked_about() {
        let (text, code) = seen(|| server::answer(200, "text/html", "<html>")).await;
        assert!(
            text.starts_with("millrace: unexpected answer from HOST: "),
            "{text}"
        );
        assert!(text.ends_with("; is this a Millrace server?"), "{text}");
        assert_eq!(code, 3);
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_told_with_its_address() {
        let url = server::nobody().await;
        let (text, code) = seen_of(&url).await;
        let told = format!(
            "millrace: cannot reach {}: ",
            url.trim_start_matches("http://")
        );
        assert!(text.starts_with(&told), "{text}");
        assert_eq!(code, 3);
    }

    #[test]
    fn an_address_that_cannot_be_one_is_wrong_usage() {
        for url in ["localhost:8080", "ftp://h", "http://h/?a=b"] {
            let error = ApiClient::new(url, None).unwrap_err().into();
            let text = message(&error);
            assert!(text.contains("is no server address"), "{text}");
            assert_eq!(code_of_error(&error), 2);
        }
    }

    #[test]
    fn a_message_from_outside_cannot_write_to_the_terminal() {
        let error = anyhow::anyhow!("a\x1b]0;title\x07").context("while reading");
        assert_eq!(
            message(&error),
            "millrace: while reading: a\u{fffd}]0;title\u{fffd}"
        );
    }
}
