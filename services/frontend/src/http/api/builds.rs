//! `GET /api/v1/builds` and `/api/v1/builds/{id}`: list and show, each task with the reason why it waits.

use axum::Json;
use axum::extract::State;
use millrace_chassis::Problem;
use millrace_domain::{BuildId, BuildState, ProjectId};
use millrace_store::ListQuery;
use serde::Deserialize;

use crate::builds::submit::validate::validate_project;
use crate::error::{ApiError, FieldError};
use crate::http::api::model::build::Build;
use crate::http::api::model::page::Page;
use crate::http::api::model::task::Task;
use crate::http::api::wait_reason::explain;
use crate::http::extract::{ApiQuery, IdPath, page_limit};
use crate::state::AppState;

/// Query of the list; each part narrows it.
#[derive(Debug, Deserialize)]
pub struct Filter {
    project: Option<String>,
    state: Option<String>,
    before: Option<i64>,
    limit: Option<i64>,
}

/// Show a build with its tasks
#[utoipa::path(
    get,
    path = "/api/v1/builds/{id}",
    tag = "builds",
    params(("id" = i64, Path, description = "Number of the build")),
    responses(
        (status = 200, description = "The build", body = Build),
        (status = "default", description = "There is no such build", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show_build(
    State(state): State<AppState>,
    IdPath(id): IdPath<BuildId>,
) -> Result<Json<Build>, ApiError> {
    load(&state, id).await.map(Json)
}

/// List builds, newest first
#[utoipa::path(
    get,
    path = "/api/v1/builds",
    tag = "builds",
    params(
        ("project" = Option<String>, Query, description = "Only builds of this project, given as owner/name"),
        ("state" = Option<BuildState>, Query, description = "Only builds in this state"),
        ("before" = Option<i64>, Query, description = "Only entries older than this one; give `next` of the previous page"),
        ("limit" = Option<i64>, Query, description = "Entries of the page at most: 1 to 100, 20 when absent"),
    ),
    responses(
        (status = 200, description = "A page, newest first", body = Page<Build>),
        (status = "default", description = "A parameter cannot be accepted", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list_builds(
    State(state): State<AppState>,
    ApiQuery(filter): ApiQuery<Filter>,
) -> Result<Json<Page<Build>>, ApiError> {
    let limit = page_limit(filter.limit)?;
    let query = ListQuery {
        project: project(&state, filter.project.as_deref()).await?,
        state: filter.state.as_deref().map(build_state).transpose()?,
        before: filter.before.map(BuildId),
        // One more than asked for, to know whether another page follows.
        limit: limit + 1,
    };
    let mut builds = state.store.list_builds(&query).await?;
    let has_more = builds.len() > limit as usize;
    builds.truncate(limit as usize);
    let next = builds.last().filter(|_| has_more).map(|build| build.id.0);
    let links = &state.settings.links;
    let mut items: Vec<Build> = builds.into_iter().map(|b| Build::new(b, links)).collect();
    let mut tasks: Vec<&mut Task> = items.iter_mut().flat_map(|b| &mut b.tasks).collect();
    explain(&state, &mut tasks).await?;
    Ok(Json(Page { items, next }))
}

/// Reads a build as the API shows it, with the reasons why its tasks wait.
pub async fn load(state: &AppState, id: BuildId) -> Result<Build, ApiError> {
    let view = state
        .store
        .build(id)
        .await?
        .ok_or_else(|| ApiError::unknown("build", id))?;
    let mut build = Build::new(view, &state.settings.links);
    explain(state, &mut build.tasks.iter_mut().collect::<Vec<_>>()).await?;
    Ok(build)
}

/// Finds the project of the query, given as `owner/name`.
async fn project(state: &AppState, text: Option<&str>) -> Result<Option<ProjectId>, ApiError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let (owner, name) = validate_project(text)?;
    match state.store.find_project(&owner, &name).await? {
        Some(project) => Ok(Some(project.id)),
        None => Err(ApiError::unknown("project", text)),
    }
}

fn build_state(text: &str) -> Result<BuildState, FieldError> {
    text.parse().map_err(|error: millrace_domain::UnknownWord| {
        let words: Vec<&str> = BuildState::ALL.iter().map(|s| s.as_str()).collect();
        FieldError::new("state", error).accepted(words.join(", "))
    })
}
