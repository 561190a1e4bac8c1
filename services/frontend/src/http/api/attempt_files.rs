//! `GET /api/v1/attempts/{id}/files` and one file: what an attempt made, once it was accepted.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use millrace_chassis::Problem;
use millrace_domain::AttemptId;
use millrace_results::AttemptFile;

use crate::error::ApiError;
use crate::http::api::model::attempt::{Attempt, ResultFile};
use crate::http::api::model::page::List;
use crate::http::api::tasks::load;
use crate::http::downloads::serve_file::serve_file;
use crate::http::extract::{IdPath, Segments, segment};
use crate::state::AppState;

/// List an attempt's files
#[utoipa::path(
    get,
    path = "/api/v1/attempts/{id}/files",
    tag = "results",
    params(("id" = uuid::Uuid, Path, description = "The attempt")),
    responses(
        (status = 200, description = "Its files, of all packages", body = List<ResultFile>),
        (status = "default", description = "There is no such attempt", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list_files(
    State(state): State<AppState>,
    IdPath(id): IdPath<AttemptId>,
) -> Result<Json<List<ResultFile>>, ApiError> {
    let attempt = Attempt::new(load(&state, id).await?, &state.settings.links);
    let items = attempt.packages.into_iter().flat_map(|p| p.files).collect();
    Ok(Json(List { items }))
}

/// Read one file of an attempt
#[utoipa::path(
    get,
    path = "/api/v1/attempts/{id}/files/{position}/{name}",
    tag = "results",
    params(
        ("id" = uuid::Uuid, Path, description = "The attempt"),
        ("position" = u32, Path, description = "The package's position"),
        ("name" = String, Path, description = "The file's name"),
    ),
    responses(
        (status = 200, description = "The file; ranges are answered with 206", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "default", description = "There is no such file", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn read_file(
    State(state): State<AppState>,
    Segments((id, position, name)): Segments<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let file = AttemptFile {
        attempt: segment("attempt", &id)?,
        position: segment("file", &position)?,
        name: segment("file", &name)?,
    };
    // Files are a result once their attempt was accepted: only then does the view name them.
    let view = load(&state, file.attempt).await?;
    let is_named = view
        .packages
        .iter()
        .filter(|package| package.position == file.position)
        .any(|package| package.files.iter().any(|f| f.name == file.name));
    if !is_named {
        return Err(ApiError::unknown("file", name));
    }
    let stored = state.results.attempt_file(&file).await?;
    serve_file(&stored, file.name.as_str(), &headers).await
}
