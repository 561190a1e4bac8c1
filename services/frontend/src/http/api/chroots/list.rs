//! `GET /api/v1/chroots`.

use axum::Json;
use axum::extract::State;

use crate::error::ApiError;
use crate::http::api::chroots::model::{Chroot, load_all};
use crate::http::api::model::page::List;
use crate::state::AppState;

/// List chroots with their images
#[utoipa::path(
    get,
    path = "/api/v1/chroots",
    tag = "service",
    responses((status = 200, description = "All chroots, by name", body = List<Chroot>))
)]
pub async fn list_chroots(State(state): State<AppState>) -> Result<Json<List<Chroot>>, ApiError> {
    let items = load_all(&state).await?;
    Ok(Json(List { items }))
}
