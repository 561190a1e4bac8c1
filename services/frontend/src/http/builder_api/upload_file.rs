//! `PUT /builder/v1/attempts/{attempt}/files/{position}/{name}`: one file of a result, streamed to the result store.
//! It stays invisible until the attempt is accepted.

use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use millrace_chassis::crash_point;
use millrace_domain::TokenHash;
use millrace_results::{AttemptFile, Expected, Sha256};
use millrace_store::UploadedFile;
use millrace_wire::SHA256_HEADER;

use crate::error::{ApiError, FieldError};
use crate::http::auth::BuilderCaller;
use crate::http::builder_api::{FilePath, Lease};
use crate::http::extract::{Segments, body_stream, content_length, header_text};
use crate::state::AppState;

/// Highest position of a package; far beyond the number of sources that a build may have.
const MAX_POSITION: u32 = 100_000;

/// What path and headers announce of an upload.
pub struct FileUpload {
    file: AttemptFile,
    lease: TokenHash,
    expected: Expected,
}

impl FromRequestParts<AppState> for FileUpload {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let Lease(lease) = Lease::from_request_parts(parts, state).await?;
        let Segments(path) = Segments::<FilePath>::from_request_parts(parts, state).await?;
        let file = path.parse()?;
        if file.position > MAX_POSITION {
            return Err(ApiError::unknown("package", path.position));
        }
        let expected = expected(state, &parts.headers)?;
        Ok(Self {
            file,
            lease,
            expected,
        })
    }
}

/// Stores the bytes first and records the file afterwards, so that a recorded file is always readable.
#[tracing::instrument(skip_all, fields(attempt.id = %upload.file.attempt))]
pub async fn upload_file(
    _: BuilderCaller,
    State(state): State<AppState>,
    upload: FileUpload,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let FileUpload {
        file,
        lease,
        expected,
    } = upload;
    if !state.store.lease_holds(file.attempt, &lease).await? {
        return Err(ApiError::LeaseGone);
    }
    crash_point("file.unstored");
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
    crash_point("file.stored");
    if state
        .store
        .record_file(file.attempt, &lease, &uploaded)
        .await?
    {
        crash_point("file.recorded");
        Ok(StatusCode::NO_CONTENT)
    } else {
        discard(&state, &file).await;
        Err(ApiError::LeaseGone)
    }
}

/// Removes a file that was uploaded after its attempt's end, unless the accepted report names it. Where this fails,
/// the janitor finds the file.
async fn discard(state: &AppState, file: &AttemptFile) {
    let recorded = state.store.recorded_files(file.attempt).await;
    let is_unrecorded = recorded.is_ok_and(|files| {
        !files
            .iter()
            .any(|known| known.position == file.position && known.name == file.name)
    });
    if is_unrecorded && let Err(error) = state.results.delete_attempt_file(file).await {
        tracing::warn!("cannot remove a file that was uploaded after its attempt's end: {error}");
    }
}

/// Size and digest that the headers announce, checked against the cap.
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
