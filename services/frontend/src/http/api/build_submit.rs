//! `POST /api/v1/builds`: accepts a build.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use millrace_chassis::Problem;
use millrace_domain::IdempotencyKey;
use millrace_store::BuildView;

use crate::builds::submit::request::SubmitRequest;
use crate::builds::submit::submit;
use crate::error::{ApiError, FieldError};
use crate::http::api::model::build::Build;
use crate::http::auth::Admin;
use crate::http::extract::ApiJson;
use crate::state::AppState;

/// Submit a build of source packages
#[utoipa::path(
    post,
    path = "/api/v1/builds",
    tag = "builds",
    request_body = SubmitRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 200 visible characters; a repeat with the same key and body gets the same build")),
    responses(
        (status = 201, description = "The stored build", body = Build),
        (status = "default", description = "Refused; nothing was stored", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn submit_build(
    _: Admin,
    State(state): State<AppState>,
    headers: HeaderMap,
    ApiJson(request): ApiJson<SubmitRequest>,
) -> Result<Response, ApiError> {
    let key = idempotency_key(&headers)?;
    let view = submit(&state, &request, key).await?;
    Ok(created(&state, view))
}

/// The answer to a submission or resubmission: 201 with the build and its address.
pub fn created(state: &AppState, view: BuildView) -> Response {
    let location = format!("/api/v1/builds/{}", view.id);
    let build = Json(Build::new(view, &state.settings.links));
    (StatusCode::CREATED, [("location", location)], build).into_response()
}

/// Reads the header `Idempotency-Key`; none when it is absent.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, ApiError> {
    const NAME: HeaderName = HeaderName::from_static("idempotency-key");
    let Some(value) = headers.get(NAME) else {
        return Ok(None);
    };
    let refused = |reason: String| {
        FieldError::new("Idempotency-Key", reason).accepted("1 to 200 visible ASCII characters")
    };
    let text = value.to_str().map_err(|error| refused(error.to_string()))?;
    text.parse()
        .map(Some)
        .map_err(|error: millrace_domain::NameError| refused(error.to_string()).into())
}
