//! `GET /builder/v1/attempts/{attempt}/files/{position}/{name}`: a file of a package that an earlier attempt finished,
//! for the builder that goes on with the task.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use millrace_results::AttemptFile;

use crate::error::ApiError;
use crate::http::auth::BuilderCaller;
use crate::http::downloads::serve_file::serve_file;
use crate::http::extract::{Segments, segment};
use crate::state::AppState;

pub async fn read_file(
    _: BuilderCaller,
    State(state): State<AppState>,
    Segments((attempt, position, name)): Segments<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let file = AttemptFile {
        attempt: segment("attempt", &attempt)?,
        position: segment("package", &position)?,
        name: segment("file", &name)?,
    };
    let known = state.store.recorded_files(file.attempt).await?;
    let is_known = known
        .iter()
        .any(|known| known.position == file.position && known.name == file.name);
    if !is_known {
        return Err(ApiError::unknown("file", name));
    }
    let stored = state.results.attempt_file(&file).await?;
    serve_file(&stored, file.name.as_str(), &headers).await
}
