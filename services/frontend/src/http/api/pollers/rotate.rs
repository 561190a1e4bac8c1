//! `POST /api/v1/pollers/{name}/rotate`: a new address and password, for a poller whose old ones may be known to
//! others.

use axum::Json;
use axum::extract::State;
use millrace_chassis::Problem;
use millrace_domain::Name;

use crate::error::ApiError;
use crate::http::api::pollers::access::{PollerAccess, Secrets};
use crate::http::auth::Admin;
use crate::http::extract::{Segments, segment};
use crate::state::AppState;

/// Give a poller a new address and password
#[utoipa::path(
    post, path = "/api/v1/pollers/{name}/rotate", tag = "pollers",
    params(("name" = String, Path, description = "Name of the poller")),
    responses(
        (status = 200, description = "The poller with its new address and password, shown this once; the old ones are void", body = PollerAccess),
        (status = "default", description = "There is no such poller", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn rotate_poller(
    _: Admin,
    State(state): State<AppState>,
    Segments(name): Segments<String>,
) -> Result<Json<PollerAccess>, ApiError> {
    let name: Name = segment("poller", &name)?;
    let secrets = Secrets::generate()?;
    let rotated = state
        .store
        .rotate_poller(&name, &secrets.token.hash(), &secrets.password.hash())
        .await?;
    if !rotated {
        return Err(ApiError::unknown("poller", name));
    }
    tracing::info!(poller = %name, "poller's address and password changed");
    let access = PollerAccess::load(&state, &name, &secrets).await?;
    Ok(Json(access))
}
