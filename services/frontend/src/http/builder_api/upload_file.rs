//! `PUT /builder/v1/attempts/{attempt}/files/{position}/{name}`: one file of a result, streamed to the result store.
//! It stays invisible until the attempt is accepted.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use millrace_chassis::crash_point;
use millrace_domain::AttemptId;
use millrace_results::{AttemptFile, Expected, Sha256};
use millrace_store::UploadedFile;
use millrace_wire::SHA256_HEADER;

use crate::error::{ApiError, FieldError};
use crate::http::auth::BuilderCaller;
use crate::http::builder_api::Lease;
use crate::http::extract::{Segments, body_stream, content_length, header_text, segment};
use crate::state::AppState;

/// Positions are those of sources; far more than anyone submits.
const MAX_POSITION: u32 = 100_000;

pub async fn upload_file(
    _: BuilderCaller,
    Lease(lease): Lease,
    State(state): State<AppState>,
    Segments((attempt, position, name)): Segments<(String, String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let attempt: AttemptId = segment("attempt", &attempt)?;
    let file = AttemptFile {
        attempt,
        position: segment("package", &position)?,
        name: segment("file", &name)?,
    };
    if file.position > MAX_POSITION {
        return Err(ApiError::unknown("package", position));
    }
    let expected = expected(&state, &headers)?;
    if !state.store.lease_holds(attempt, &lease).await? {
        return Err(ApiError::LeaseGone);
    }
    crash_point!("file.unstored");
    let uploaded = UploadedFile {
        position: file.position,
        name: file.name.clone(),
        size: expected.size,
        sha256: expected.sha256.to_string(),
    };
    let put = state
        .results
        .put_attempt_file(&file, expected, body_stream(body));
    state.note_upload_result(uploaded.size, put.await)?;
    crash_point!("file.stored");
    if state.store.record_file(attempt, &lease, &uploaded).await? {
        crash_point!("file.recorded");
        Ok(StatusCode::NO_CONTENT)
    } else {
        discard(&state, &file).await;
        Err(ApiError::LeaseGone)
    }
}

/// Removes a file that came after its attempt's end, unless the accepted report names it. Where this fails, the
/// janitor finds the file.
async fn discard(state: &AppState, file: &AttemptFile) {
    let known = state.store.recorded_files(file.attempt).await;
    let is_stray = known.is_ok_and(|files| {
        !files
            .iter()
            .any(|known| known.position == file.position && known.name == file.name)
    });
    if is_stray && let Err(error) = state.results.delete_attempt_file(file).await {
        tracing::warn!(attempt.id = %file.attempt, "cannot remove a file that came too late: {error}");
    }
}

fn expected(state: &AppState, headers: &HeaderMap) -> Result<Expected, ApiError> {
    let cap = state.settings.config.caps.max_result_bytes;
    let size = content_length(headers).ok_or(ApiError::LengthRequired)?;
    if size > cap {
        return Err(ApiError::TooLarge { cap });
    }
    let text = header_text(headers, &HeaderName::from_static(SHA256_HEADER)).unwrap_or_default();
    let sha256: Sha256 = text.parse().map_err(|error| {
        FieldError::new(SHA256_HEADER, error).accepted("64 hexadecimal digits in lower case")
    })?;
    Ok(Expected { sha256, size, cap })
}
