//! `/api/v1/projects/{owner}/{name}`: what a project has set.

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
    /// Its owner.
    pub owner: Name,
    /// Its name.
    pub name: Name,
    /// A task that hit its limit on memory, time or disk space is released once more with the suggested one.
    pub auto_raise: bool,
}

/// Settings to be changed; what is left out stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectChange {
    /// Whether a task that hit its limit is released once more with the suggested one.
    #[serde(default)]
    pub auto_raise: Option<bool>,
}

/// Show a project
#[utoipa::path(
    get,
    path = "/api/v1/projects/{owner}/{name}",
    tag = "service",
    params(
        ("owner" = String, Path, description = "The project's owner"),
        ("name" = String, Path, description = "The project's name"),
    ),
    responses(
        (status = 200, description = "The project", body = Project),
        (status = "default", description = "There is no such project", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show_project(
    State(state): State<AppState>,
    Segments(path): Segments<(String, String)>,
) -> Result<Json<Project>, ApiError> {
    answer(&state, path, None).await
}

/// Change a project's settings
#[utoipa::path(
    patch,
    path = "/api/v1/projects/{owner}/{name}",
    tag = "service",
    params(
        ("owner" = String, Path, description = "The project's owner"),
        ("name" = String, Path, description = "The project's name"),
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
    Segments(path): Segments<(String, String)>,
    ApiJson(change): ApiJson<ProjectChange>,
) -> Result<Json<Project>, ApiError> {
    answer(&state, path, change.auto_raise).await
}

async fn answer(
    state: &AppState,
    (owner, name): (String, String),
    auto_raise: Option<bool>,
) -> Result<Json<Project>, ApiError> {
    let (owner, name): (Name, Name) = (segment("project", &owner)?, segment("project", &name)?);
    let found = state.store.project(&owner, &name, auto_raise).await?;
    let view = found.ok_or_else(|| ApiError::unknown("project", format!("{owner}/{name}")))?;
    if auto_raise.is_some() {
        tracing::info!(project = %format!("{owner}/{name}"), auto_raise = view.auto_raise, "project changed");
    }
    Ok(Json(Project {
        owner: view.owner,
        name: view.name,
        auto_raise: view.auto_raise,
    }))
}
