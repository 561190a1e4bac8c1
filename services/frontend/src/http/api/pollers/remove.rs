//! `DELETE /api/v1/pollers/{name}`.

use axum::Json;
use axum::extract::State;
use millrace_chassis::Problem;
use millrace_domain::Name;

use crate::error::ApiError;
use crate::http::api::pollers::model::{Poller, load};
use crate::http::auth::Admin;
use crate::http::extract::{Segments, segment};
use crate::state::AppState;

/// Remove a poller; its builds go to the queue
#[utoipa::path(
    delete, path = "/api/v1/pollers/{name}", tag = "pollers",
    params(("name" = String, Path, description = "Name of the poller")),
    responses(
        (status = 200, description = "The poller as it was; its address and password are void, and its builds go to the queue", body = Poller),
        (status = "default", description = "There is no such poller", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn remove_poller(
    _: Admin,
    State(state): State<AppState>,
    Segments(name): Segments<String>,
) -> Result<Json<Poller>, ApiError> {
    let name: Name = segment("poller", &name)?;
    let poller = load(&state, &name).await?;
    if !state.store.remove_poller(&name).await? {
        return Err(ApiError::unknown("poller", name));
    }
    tracing::info!(poller = %name, "poller removed");
    Ok(Json(poller.into()))
}
