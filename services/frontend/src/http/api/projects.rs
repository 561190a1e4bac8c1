//! `GET` and `PATCH /api/v1/projects/{owner}/{name}`: shows or changes a project's settings.

use axum::Json;
use axum::extract::State;
use millrace_chassis::Problem;
use millrace_domain::Name;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::http::auth::Admin;
use crate::http::extract::{ApiJson, Segments, segment};
use crate::state::AppState;

/// A project with its settings.
#[derive(Debug, Serialize, ToSchema)]
pub struct Project {
    /// Account that owns the project.
    pub owner: Name,
    /// Name of the project, unique for its owner.
    pub name: Name,
    /// Whether a task that hit its limit on memory, time or disk space is released once more with the suggested limit.
    pub auto_raise: bool,
}

/// Settings to be changed; absent ones stay as they are.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectChange {
    /// Whether a task that hit its limit on memory, time or disk space is released once more with the suggested limit.
    #[serde(default)]
    pub auto_raise: Option<bool>,
}

/// Path of a project, as texts.
#[derive(Debug, Deserialize)]
pub struct ProjectPath {
    owner: String,
    name: String,
}

/// Show a project's settings
#[utoipa::path(
    get,
    path = "/api/v1/projects/{owner}/{name}",
    tag = "service",
    params(
        ("owner" = String, Path, description = "Owner of the project"),
        ("name" = String, Path, description = "Name of the project"),
    ),
    responses(
        (status = 200, description = "The project", body = Project),
        (status = "default", description = "There is no such project", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show_project(
    State(state): State<AppState>,
    Segments(path): Segments<ProjectPath>,
) -> Result<Json<Project>, ApiError> {
    answer(&state, &path, None).await
}

/// Change a project's settings
#[utoipa::path(
    patch,
    path = "/api/v1/projects/{owner}/{name}",
    tag = "service",
    params(
        ("owner" = String, Path, description = "Owner of the project"),
        ("name" = String, Path, description = "Name of the project"),
    ),
    request_body = ProjectChange,
    responses(
        (status = 200, description = "The project as it is now", body = Project),
        (status = "default", description = "There is no such project, or the request is refused", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn change_project(
    _: Admin,
    State(state): State<AppState>,
    Segments(path): Segments<ProjectPath>,
    ApiJson(change): ApiJson<ProjectChange>,
) -> Result<Json<Project>, ApiError> {
    answer(&state, &path, change.auto_raise).await
}

/// Stores the change, if there is one, and answers with the project.
async fn answer(
    state: &AppState,
    path: &ProjectPath,
    auto_raise: Option<bool>,
) -> Result<Json<Project>, ApiError> {
    let owner: Name = segment("project", &path.owner)?;
    let name: Name = segment("project", &path.name)?;
    let found = state.store.project(&owner, &name, auto_raise).await?;
    let view = found.ok_or_else(|| ApiError::unknown("project", format!("{owner}/{name}")))?;
    if auto_raise.is_some() {
        tracing::info!(project = %format!("{owner}/{name}"), auto_raise = view.auto_raise, "project settings changed");
    }
    Ok(Json(Project {
        owner: view.owner,
        name: view.name,
        auto_raise: view.auto_raise,
    }))
}
