//! `GET /builder/v1/attempts/{attempt}/files/{position}/{name}`: a file of a package that an earlier attempt finished,
//! for the builder that continues with the task's other packages.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use crate::error::ApiError;
use crate::http::auth::BuilderCaller;
use crate::http::builder_api::FilePath;
use crate::http::downloads::serve_file::serve_file;
use crate::http::extract::Segments;
use crate::state::AppState;

/// Serves a file that the database knows, whether or not its attempt was accepted.
pub async fn read_file(
    _: BuilderCaller,
    State(state): State<AppState>,
    Segments(path): Segments<FilePath>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let file = path.parse()?;
    let recorded = state.store.recorded_files(file.attempt).await?;
    let is_recorded = recorded
        .iter()
        .any(|known| known.position == file.position && known.name == file.name);
    if !is_recorded {
        return Err(ApiError::unknown("file", path.name));
    }
    let stored = state.results.attempt_file(&file).await?;
    serve_file(&stored, file.name.as_str(), &headers).await
}
