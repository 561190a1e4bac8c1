//! `POST /api/v1/chroots/{name}/refresh`.

use axum::Json;
use axum::extract::State;
use millrace_chassis::Problem;
use millrace_domain::ChrootName;

use crate::error::ApiError;
use crate::http::api::chroots::model::{Chroot, load};
use crate::http::auth::Admin;
use crate::http::extract::{Segments, segment};
use crate::state::AppState;

/// Refresh a chroot's image
#[utoipa::path(
    post,
    path = "/api/v1/chroots/{name}/refresh",
    tag = "service",
    params(("name" = String, Path, description = "Name of the chroot")),
    responses(
        (status = 200, description = "The chroot; each engine gets a fresh image in the background, builds continue with the present one", body = Chroot),
        (status = "default", description = "There is no such chroot, or its image is made elsewhere", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn refresh_chroot(
    _: Admin,
    State(state): State<AppState>,
    Segments(name): Segments<String>,
) -> Result<Json<Chroot>, ApiError> {
    let name: ChrootName = segment("chroot", &name)?;
    let is_asked = state.store.refresh_chroot(&name).await?;
    let chroot = load(&state, &name).await?;
    if !is_asked {
        let detail = format!("chroot {name} has no base: its image is made elsewhere");
        return Err(ApiError::Conflict { detail });
    }
    tracing::info!(chroot = %name, "chroot image refresh requested");
    Ok(Json(chroot))
}
