//! `POST /api/v1/chroots/{name}/disable` and `/enable`: a disabled chroot refuses new builds.

use axum::Json;
use axum::extract::State;
use millrace_chassis::Problem;
use millrace_domain::ChrootName;

use crate::error::ApiError;
use crate::http::api::chroots::model::{Chroot, load};
use crate::http::auth::Admin;
use crate::http::extract::{Segments, segment};
use crate::state::AppState;

/// Disable a chroot for new builds
#[utoipa::path(
    post,
    path = "/api/v1/chroots/{name}/disable",
    tag = "service",
    params(("name" = String, Path, description = "Name of the chroot")),
    responses(
        (status = 200, description = "The chroot; new builds may not ask for it, builds accepted earlier go on", body = Chroot),
        (status = "default", description = "There is no such chroot", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn disable_chroot(
    _: Admin,
    State(state): State<AppState>,
    Segments(name): Segments<String>,
) -> Result<Json<Chroot>, ApiError> {
    set_enabled(&state, &name, false).await
}

/// Enable a chroot for new builds
#[utoipa::path(
    post,
    path = "/api/v1/chroots/{name}/enable",
    tag = "service",
    params(("name" = String, Path, description = "Name of the chroot")),
    responses(
        (status = 200, description = "The chroot; new builds may ask for it", body = Chroot),
        (status = "default", description = "There is no such chroot", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn enable_chroot(
    _: Admin,
    State(state): State<AppState>,
    Segments(name): Segments<String>,
) -> Result<Json<Chroot>, ApiError> {
    set_enabled(&state, &name, true).await
}

async fn set_enabled(
    state: &AppState,
    name: &str,
    enabled: bool,
) -> Result<Json<Chroot>, ApiError> {
    let name: ChrootName = segment("chroot", name)?;
    if !state.store.enable_chroot(&name, enabled).await? {
        return Err(ApiError::unknown("chroot", name));
    }
    let change = if enabled { "enabled" } else { "disabled" };
    tracing::info!(chroot = %name, "chroot {change}");
    load(state, &name).await.map(Json)
}
