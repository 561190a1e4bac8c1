//! `POST /builder/v1/attempts/{attempt}/log?offset=N`: appends the next bytes of a log.
//!
//! The bytes are stored first and counted afterwards. A crash in between loses nothing: the builder sends the same
//! bytes again at the same offset, where storing twice is harmless.

use axum::Json;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use millrace_chassis::crash_point;
use millrace_domain::{AttemptId, TokenHash};
use millrace_store::LogAppend;
use millrace_wire::LogAccepted;
use serde::Deserialize;

use crate::error::ApiError;
use crate::http::auth::BuilderCaller;
use crate::http::builder_api::Lease;
use crate::http::extract::{ApiQuery, IdPath, read_body};
use crate::state::AppState;

/// Size of a chunk at most, in bytes.
const MAX_CHUNK: usize = 4 << 20;

#[derive(Debug, Deserialize)]
struct Query {
    offset: u64,
}

/// Which log the bytes belong to, and at which byte of it they begin.
pub struct LogUpload {
    attempt: AttemptId,
    lease: TokenHash,
    offset: u64,
}

impl FromRequestParts<AppState> for LogUpload {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let Lease(lease) = Lease::from_request_parts(parts, state).await?;
        let IdPath(attempt) = IdPath::from_request_parts(parts, state).await?;
        let ApiQuery(Query { offset }) = ApiQuery::from_request_parts(parts, state).await?;
        Ok(Self {
            attempt,
            lease,
            offset,
        })
    }
}

/// Stores the bytes, counts them, and wakes the log's followers.
#[tracing::instrument(skip_all, fields(attempt.id = %upload.attempt))]
pub async fn upload_log(
    _: BuilderCaller,
    State(state): State<AppState>,
    upload: LogUpload,
    request: Request,
) -> Result<Json<LogAccepted>, ApiError> {
    let LogUpload {
        attempt,
        lease,
        offset,
    } = upload;
    let bytes = read_body(request, MAX_CHUNK).await?;
    let length = bytes.len() as u64;
    // Before the bytes are stored: without the lease, or anywhere but at the end, nothing may be written.
    require_end(state.store.log_end(attempt, &lease, offset).await?)?;
    if length > 0 {
        crash_point("log.unstored");
        let appended = state.results.append_log(attempt, offset, bytes).await;
        state.note_upload_result(length, appended)?;
        crash_point("log.stored");
        require_end(
            state
                .store
                .append_log_size(attempt, &lease, offset, length)
                .await?,
        )?;
        crash_point("log.counted");
        state
            .log_followers
            .notify_grown(attempt, offset.saturating_add(length));
    }
    Ok(Json(LogAccepted {
        size: offset.saturating_add(length),
    }))
}

/// Refuses bytes that do not begin where the stored log ends, or that come without the lease.
fn require_end(append: LogAppend) -> Result<(), ApiError> {
    match append {
        LogAppend::Stored { .. } => Ok(()),
        LogAppend::Mismatch { size } => Err(ApiError::LogMismatch { size }),
        LogAppend::NoLease => Err(ApiError::LeaseGone),
    }
}
