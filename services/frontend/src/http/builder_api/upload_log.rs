//! `POST /builder/v1/attempts/{attempt}/log?offset=N`: the next bytes of a log.
//!
//! The bytes are stored first and counted afterwards. A crash in between loses nothing: the builder sends the same
//! bytes again at the same offset, where storing twice is harmless.

use axum::Json;
use axum::extract::{Request, State};
use millrace_chassis::crash_point;
use millrace_domain::AttemptId;
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

/// Where the bytes belong.
#[derive(Debug, Deserialize)]
pub struct Query {
    offset: u64,
}

pub async fn upload_log(
    _: BuilderCaller,
    Lease(lease): Lease,
    State(state): State<AppState>,
    IdPath(attempt): IdPath<AttemptId>,
    ApiQuery(Query { offset }): ApiQuery<Query>,
    request: Request,
) -> Result<Json<LogAccepted>, ApiError> {
    let bytes = read_body(request, MAX_CHUNK).await?;
    let length = bytes.len() as u64;
    // Nobody writes without a lease, nor anywhere but at the end.
    stored(state.store.log_end(attempt, &lease, offset).await?)?;
    if length > 0 {
        crash_point!("log.unstored");
        let appended = state.results.append_log(attempt, offset, bytes).await;
        state.note_upload_result(length, appended)?;
        crash_point!("log.stored");
        stored(
            state
                .store
                .append_log_size(attempt, &lease, offset, length)
                .await?,
        )?;
        crash_point!("log.counted");
        state
            .log_followers
            .notify_grown(attempt, offset.saturating_add(length));
    }
    Ok(Json(LogAccepted {
        size: offset.saturating_add(length),
    }))
}

fn stored(append: LogAppend) -> Result<(), ApiError> {
    match append {
        LogAppend::Stored { .. } => Ok(()),
        LogAppend::Mismatch { size } => Err(ApiError::LogMismatch { size }),
        LogAppend::NoLease => Err(ApiError::LeaseGone),
    }
}
