//! `GET /api/v1/attempts/{id}/files` and `/files/{position}/{name}`: the files of an attempt whose report was accepted.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use millrace_chassis::Problem;
use millrace_domain::AttemptId;
use millrace_results::AttemptFile;
use serde::Deserialize;

use crate::error::ApiError;
use crate::http::api::model::attempt::{Attempt, ResultFile};
use crate::http::api::model::page::List;
use crate::http::api::tasks::load;
use crate::http::downloads::serve_file::serve_file;
use crate::http::extract::{IdPath, Segments, segment};
use crate::state::AppState;

/// Path of a file of an attempt, as texts.
#[derive(Debug, Deserialize)]
pub struct FilePath {
    id: String,
    position: String,
    name: String,
}

/// List an attempt's files
#[utoipa::path(
    get,
    path = "/api/v1/attempts/{id}/files",
    tag = "results",
    params(("id" = uuid::Uuid, Path, description = "Id of the attempt")),
    responses(
        (status = 200, description = "Files of all packages of the attempt", body = List<ResultFile>),
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

/// Read a file of an attempt
#[utoipa::path(
    get,
    path = "/api/v1/attempts/{id}/files/{position}/{name}",
    tag = "results",
    params(
        ("id" = uuid::Uuid, Path, description = "Id of the attempt"),
        ("position" = u32, Path, description = "Position of the package within the build, from 0"),
        ("name" = String, Path, description = "File name"),
    ),
    responses(
        (status = 200, description = "The file, or with 206 the range that was asked for", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "default", description = "There is no such file", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn read_file(
    State(state): State<AppState>,
    Segments(path): Segments<FilePath>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let file = AttemptFile {
        attempt: segment("attempt", &path.id)?,
        position: segment("file", &path.position)?,
        name: segment("file", &path.name)?,
    };
    // Uploaded files stay invisible until the attempt's report is accepted: only then does the view name them.
    let view = load(&state, file.attempt).await?;
    let is_named = view
        .packages
        .iter()
        .filter(|package| package.position == file.position)
        .any(|package| package.files.iter().any(|f| f.name == file.name));
    if !is_named {
        return Err(ApiError::unknown("file", path.name));
    }
    let stored = state.results.attempt_file(&file).await?;
    serve_file(&stored, file.name.as_str(), &headers).await
}
