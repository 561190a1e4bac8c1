//! `GET /api/v1/chroots`: where one can build.

use axum::Json;
use axum::extract::State;
use millrace_domain::ChrootName;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::state::AppState;
use crate::views::List;

/// A place to build in.
#[derive(Debug, Serialize, ToSchema)]
pub struct Chroot {
    /// Its name.
    pub name: ChrootName,
    /// Its architecture.
    pub arch: String,
    /// Whether builds may ask for it.
    pub enabled: bool,
    /// The image with the initialised chroot.
    pub image: String,
}

/// List chroots
#[utoipa::path(
    get,
    path = "/api/v1/chroots",
    tag = "service",
    responses((status = 200, description = "All chroots, by name", body = List<Chroot>))
)]
pub async fn list_chroots(State(state): State<AppState>) -> Result<Json<List<Chroot>>, ApiError> {
    let chroots = state.store.list_chroots().await?;
    let items = chroots
        .into_iter()
        .map(|chroot| Chroot {
            name: chroot.name,
            arch: chroot.arch,
            enabled: chroot.enabled,
            image: chroot.image,
        })
        .collect();
    Ok(Json(List { items }))
}
