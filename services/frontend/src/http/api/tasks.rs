//! `GET /api/v1/tasks/{id}` and `/api/v1/attempts/{id}`: a single task or attempt of a build.

use axum::Json;
use axum::extract::State;
use millrace_chassis::Problem;
use millrace_domain::{AttemptId, TaskId};
use millrace_store::AttemptView;

use crate::error::ApiError;
use crate::http::api::model::attempt::Attempt;
use crate::http::api::model::task::Task;
use crate::http::api::wait_reason::explain;
use crate::http::extract::IdPath;
use crate::state::AppState;

/// Show a task with its attempts
#[utoipa::path(
    get,
    path = "/api/v1/tasks/{id}",
    tag = "builds",
    params(("id" = i64, Path, description = "Number of the task")),
    responses(
        (status = 200, description = "The task", body = Task),
        (status = "default", description = "There is no such task", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show_task(
    State(state): State<AppState>,
    IdPath(id): IdPath<TaskId>,
) -> Result<Json<Task>, ApiError> {
    let view = state
        .store
        .task(id)
        .await?
        .ok_or_else(|| ApiError::unknown("task", id))?;
    let mut task = Task::new(view, &state.settings.links);
    explain(&state, &mut [&mut task]).await?;
    Ok(Json(task))
}

/// Show an attempt with its packages
#[utoipa::path(
    get,
    path = "/api/v1/attempts/{id}",
    tag = "builds",
    params(("id" = uuid::Uuid, Path, description = "Id of the attempt")),
    responses(
        (status = 200, description = "The attempt", body = Attempt),
        (status = "default", description = "There is no such attempt", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show_attempt(
    State(state): State<AppState>,
    IdPath(id): IdPath<AttemptId>,
) -> Result<Json<Attempt>, ApiError> {
    let view = load(&state, id).await?;
    Ok(Json(Attempt::new(view, &state.settings.links)))
}

/// Reads an attempt; one that does not exist is answered as unknown.
pub async fn load(state: &AppState, id: AttemptId) -> Result<AttemptView, ApiError> {
    state
        .store
        .attempt(id)
        .await?
        .ok_or_else(|| ApiError::unknown("attempt", id))
}
