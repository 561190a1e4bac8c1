//! `POST /api/v1/sources?name=FILE`: uploads a source package, streamed to the result store.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use millrace_chassis::{Problem, crash_point};
use millrace_domain::FileName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::builds::submit::validate::validate_source_name;
use crate::error::ApiError;
use crate::http::auth::Admin;
use crate::http::extract::{ApiQuery, body_stream, content_length};
use crate::state::AppState;

/// Query of an upload.
#[derive(Debug, Deserialize)]
pub struct Query {
    /// File name; an absent one is refused like an empty one.
    #[serde(default)]
    name: String,
}

/// A stored source package, in the form that `sources` of a submission takes.
#[derive(Debug, Serialize, ToSchema)]
pub struct Uploaded {
    /// SHA-256 of the file in lower-case hexadecimal.
    pub sha256: String,
    /// File name as given in the request.
    pub name: FileName,
    /// Size of the file in bytes.
    pub size: u64,
}

/// Upload a source package
#[utoipa::path(
    post,
    path = "/api/v1/sources",
    tag = "builds",
    params(("name" = String, Query, description = "The file's name, ending in .src.rpm")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The file"),
    responses(
        (status = 201, description = "The stored source package", body = Uploaded),
        (status = "default", description = "Refused; nothing was stored", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn upload_source(
    _: Admin,
    State(state): State<AppState>,
    ApiQuery(query): ApiQuery<Query>,
    headers: HeaderMap,
    body: Body,
) -> Result<impl IntoResponse, ApiError> {
    let name = validate_source_name("name", &query.name)?;
    let cap = state.settings.config.caps.max_upload_bytes;
    let announced = content_length(&headers);
    if announced.is_some_and(|announced| announced > cap) {
        return Err(ApiError::TooLarge { cap });
    }
    crash_point("source.unstored");
    let put = state.results.put_source(body_stream(body), cap).await;
    let bytes = put
        .as_ref()
        .map_or_else(|_| announced.unwrap_or(u64::MAX), |stored| stored.size);
    let stored = state.note_upload_result(bytes, put)?;
    crash_point("source.stored");
    tracing::info!(
        source.sha256 = %stored.sha256,
        size_bytes = stored.size,
        "source package uploaded"
    );
    let answer = Uploaded {
        sha256: stored.sha256.to_string(),
        name,
        size: stored.size,
    };
    Ok((StatusCode::CREATED, Json(answer)))
}
