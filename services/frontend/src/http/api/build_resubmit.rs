//! `POST /api/v1/builds/{id}/resubmit`: submits the sources and chroots of an earlier build again, with other limits
//! where the request names any.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use millrace_chassis::Problem;
use millrace_domain::BuildId;

use crate::builds::resubmit::resubmit;
use crate::builds::submit::request::ResubmitRequest;
use crate::error::ApiError;
use crate::http::api::build_submit::{created, idempotency_key};
use crate::http::api::model::build::Build;
use crate::http::auth::Admin;
use crate::http::extract::{IdPath, OptionalJson};
use crate::state::AppState;

/// Submit a build again
#[utoipa::path(
    post,
    path = "/api/v1/builds/{id}/resubmit",
    tag = "builds",
    request_body = Option<ResubmitRequest>,
    params(
        ("id" = i64, Path, description = "Number of the earlier build"),
        ("Idempotency-Key" = Option<String>, Header, description = "As for a submission"),
    ),
    responses(
        (status = 201, description = "The new build, stored", body = Build),
        (status = "default", description = "Refused; nothing was stored", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn resubmit_build(
    _: Admin,
    State(state): State<AppState>,
    IdPath(earlier): IdPath<BuildId>,
    headers: HeaderMap,
    OptionalJson(request): OptionalJson<ResubmitRequest>,
) -> Result<Response, ApiError> {
    let key = idempotency_key(&headers)?;
    let view = resubmit(&state, earlier, &request, key).await?;
    Ok(created(&state, view))
}
