//! `POST /api/v1/builders/{id}/drain` and `/undrain`: a drained builder gets no more work, over restarts too.

use axum::Json;
use axum::extract::State;
use millrace_chassis::Problem;
use millrace_domain::BuilderId;

use crate::error::ApiError;
use crate::http::api::builders::Builder;
use crate::http::auth::Admin;
use crate::http::extract::IdPath;
use crate::state::AppState;

/// Drain a builder: it gets no more work
#[utoipa::path(
    post,
    path = "/api/v1/builders/{id}/drain",
    tag = "service",
    params(("id" = String, Path, description = "Id of the builder")),
    responses(
        (status = 200, description = "The builder; it finishes its attempts and gets no more work, over restarts too, until it is undrained", body = Builder),
        (status = "default", description = "There is no such builder", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn drain_builder(
    _: Admin,
    State(state): State<AppState>,
    IdPath(id): IdPath<BuilderId>,
) -> Result<Json<Builder>, ApiError> {
    let known = state.store.drain_builder(id).await?;
    answer(&state, id, known, "builder drained").await
}

/// Undrain a builder: it gets work again
#[utoipa::path(
    post,
    path = "/api/v1/builders/{id}/undrain",
    tag = "service",
    params(("id" = String, Path, description = "Id of the builder")),
    responses(
        (status = 200, description = "The builder; it gets work again", body = Builder),
        (status = "default", description = "There is no such builder", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn undrain_builder(
    _: Admin,
    State(state): State<AppState>,
    IdPath(id): IdPath<BuilderId>,
) -> Result<Json<Builder>, ApiError> {
    let known = state.store.undrain_builder(id).await?;
    answer(&state, id, known, "builder undrained").await
}

/// Notifies the builder and the relay of the change, and answers with the builder.
async fn answer(
    state: &AppState,
    id: BuilderId,
    is_known: bool,
    event: &'static str,
) -> Result<Json<Builder>, ApiError> {
    let unknown = || ApiError::unknown("builder", id);
    if !is_known {
        return Err(unknown());
    }
    tracing::info!(builder.id = %id, "{event}");
    state.hints.heartbeat(id);
    state.relay_wake.notify_one();
    let builders = state.store.list_builders().await?;
    let builder = builders.into_iter().find(|builder| builder.id == id);
    builder.map(|view| Json(view.into())).ok_or_else(unknown)
}
