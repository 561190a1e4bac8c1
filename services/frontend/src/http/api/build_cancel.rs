//! `POST /api/v1/builds/{id}/cancel`: what runs is stopped through its builder.

use axum::Json;
use axum::extract::State;
use millrace_chassis::Problem;
use millrace_domain::BuildId;

use crate::builds::cancel::cancel;
use crate::error::ApiError;
use crate::http::api::builds::load;
use crate::http::api::model::build::Build;
use crate::http::auth::Admin;
use crate::http::extract::IdPath;
use crate::state::AppState;

/// Cancel a build and stop its tasks
#[utoipa::path(
    post,
    path = "/api/v1/builds/{id}/cancel",
    tag = "builds",
    params(("id" = i64, Path, description = "Number of the build")),
    responses(
        (status = 200, description = "The build; what runs is stopped within seconds", body = Build),
        (status = "default", description = "There is no such build, or it has ended", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn cancel_build(
    _: Admin,
    State(state): State<AppState>,
    IdPath(id): IdPath<BuildId>,
) -> Result<Json<Build>, ApiError> {
    cancel(&state, id).await?;
    load(&state, id).await.map(Json)
}
