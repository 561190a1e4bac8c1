//! `GET …/log` of an attempt, a task or a build: plain text, streamed while it grows when `follow` is set.

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use chrono::SecondsFormat;
use millrace_chassis::Problem;
use millrace_domain::{AttemptId, BuildId, TaskId};
use millrace_store::TaskView;
use serde::Deserialize;

use crate::error::{ApiError, FieldError};
use crate::http::api::tasks;
use crate::http::extract::{ApiQuery, IdPath};
use crate::log_stream::{Subject, read};
use crate::state::AppState;

/// Query of a log: where to begin, and whether to stay.
#[derive(Debug, Deserialize)]
pub struct LogQuery {
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    follow: bool,
    chroot: Option<String>,
}

/// Read an attempt's log
#[utoipa::path(
    get,
    path = "/api/v1/attempts/{id}/log",
    tag = "logs",
    params(
        ("id" = uuid::Uuid, Path, description = "Id of the attempt"),
        ("offset" = Option<u64>, Query, description = "Offset in bytes from which to read; 0 when absent"),
        ("follow" = Option<bool>, Query, description = "Stay connected until the attempt has ended"),
    ),
    responses(
        (status = 200, description = "The log", body = String, content_type = "text/plain"),
        (status = "default", description = "There is no such attempt", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn attempt_log(
    State(state): State<AppState>,
    IdPath(id): IdPath<AttemptId>,
    ApiQuery(query): ApiQuery<LogQuery>,
) -> Result<Response, ApiError> {
    tasks::load(&state, id).await?;
    require_not_removed(&state, Some(id)).await?;
    Ok(answer(state, Subject::Attempt(id), &query))
}

/// Read the log of a task's latest attempt and, when followed, of later ones
#[utoipa::path(
    get,
    path = "/api/v1/tasks/{id}/log",
    tag = "logs",
    params(
        ("id" = i64, Path, description = "Number of the task"),
        ("offset" = Option<u64>, Query, description = "Offset in bytes from which to read; 0 when absent"),
        ("follow" = Option<bool>, Query, description = "Stay connected until the task has ended"),
    ),
    responses(
        (status = 200, description = "The log", body = String, content_type = "text/plain"),
        (status = "default", description = "There is no such task", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn task_log(
    State(state): State<AppState>,
    IdPath(id): IdPath<TaskId>,
    ApiQuery(query): ApiQuery<LogQuery>,
) -> Result<Response, ApiError> {
    let task = state.store.task(id).await?;
    let task = task.ok_or_else(|| ApiError::unknown("task", id))?;
    require_not_removed(&state, latest_claimed(&task)).await?;
    Ok(answer(state, Subject::Task(id), &query))
}

/// Read the log of a task of a build
#[utoipa::path(
    get,
    path = "/api/v1/builds/{id}/log",
    tag = "logs",
    params(
        ("id" = i64, Path, description = "Number of the build"),
        ("chroot" = Option<String>, Query, description = "Chroot of the task; needed when the build has several"),
        ("offset" = Option<u64>, Query, description = "Offset in bytes from which to read; 0 when absent"),
        ("follow" = Option<bool>, Query, description = "Stay connected until the task has ended"),
    ),
    responses(
        (status = 200, description = "The log", body = String, content_type = "text/plain"),
        (status = "default", description = "There is no such build or task", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn build_log(
    State(state): State<AppState>,
    IdPath(id): IdPath<BuildId>,
    ApiQuery(query): ApiQuery<LogQuery>,
) -> Result<Response, ApiError> {
    let build = state
        .store
        .build(id)
        .await?
        .ok_or_else(|| ApiError::unknown("build", id))?;
    let task = match &query.chroot {
        None if build.tasks.len() == 1 => build.tasks.first(),
        None => None,
        Some(chroot) => build.tasks.iter().find(|t| t.chroot.as_str() == chroot),
    };
    let Some(task) = task else {
        let names: Vec<&str> = build.tasks.iter().map(|t| t.chroot.as_str()).collect();
        return Err(FieldError::new("chroot", "name a chroot of the build")
            .accepted(names.join(", "))
            .into());
    };
    require_not_removed(&state, latest_claimed(task)).await?;
    Ok(answer(state, Subject::Task(task.id), &query))
}

/// The attempt whose log is shown as the task's: the latest that was claimed.
fn latest_claimed(task: &TaskView) -> Option<AttemptId> {
    let mut claimed = task.attempts.iter().filter(|a| a.claimed_at.is_some());
    claimed.next_back().map(|attempt| attempt.id)
}

/// Refuses a log that retention has removed, which would otherwise look empty.
async fn require_not_removed(state: &AppState, attempt: Option<AttemptId>) -> Result<(), ApiError> {
    let Some(attempt) = attempt else {
        return Ok(());
    };
    let Some(since) = state.store.log_removed_at(attempt).await? else {
        return Ok(());
    };
    let keep = &state.settings.config.keep;
    Err(ApiError::LogRemoved {
        detail: format!(
            "the log of attempt {attempt} was removed at {}: logs are kept for {} days \
             (MILLRACE_KEEP_LOGS_DAYS), the newest {} of them (MILLRACE_KEEP_LOGS)",
            since.to_rfc3339_opts(SecondsFormat::Secs, true),
            keep.keep_logs_days,
            keep.keep_logs
        ),
    })
}

fn answer(state: AppState, subject: Subject, query: &LogQuery) -> Response {
    let stream = read(state, subject, query.offset, query.follow);
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, Body::from_stream(stream)).into_response()
}
