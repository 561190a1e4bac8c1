//! `GET /api/v1/pollers` and `/api/v1/pollers/{name}`: list and show.

use axum::Json;
use axum::extract::State;
use millrace_chassis::Problem;

use crate::error::ApiError;
use crate::http::api::model::page::List;
use crate::http::api::pollers::model::{Poller, load};
use crate::http::auth::Admin;
use crate::http::extract::{Segments, segment};
use crate::state::AppState;

/// List all pollers by name
#[utoipa::path(
    get, path = "/api/v1/pollers", tag = "pollers",
    responses(
        (status = 200, description = "All pollers, by name", body = List<Poller>),
        (status = "default", description = "The token is missing or wrong", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn list_pollers(
    _: Admin,
    State(state): State<AppState>,
) -> Result<Json<List<Poller>>, ApiError> {
    let pollers = state.store.list_pollers().await?;
    let items = pollers.into_iter().map(Poller::from).collect();
    Ok(Json(List { items }))
}

/// Show a poller by name
#[utoipa::path(
    get, path = "/api/v1/pollers/{name}", tag = "pollers",
    params(("name" = String, Path, description = "Name of the poller")),
    responses(
        (status = 200, description = "The poller", body = Poller),
        (status = "default", description = "There is no such poller", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn show_poller(
    _: Admin,
    State(state): State<AppState>,
    Segments(name): Segments<String>,
) -> Result<Json<Poller>, ApiError> {
    let name = segment("poller", &name)?;
    Ok(Json(load(&state, &name).await?.into()))
}
