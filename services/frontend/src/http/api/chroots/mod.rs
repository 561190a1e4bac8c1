//! `GET` and `POST /api/v1/chroots`, and `POST /api/v1/chroots/{name}/refresh`, `/disable` and `/enable`: where one can
//! build, and how the images for that are.

pub(crate) mod add;

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use millrace_chassis::Problem;
use millrace_domain::{BuilderId, ChrootName};
use millrace_store::{ChrootAdded, ChrootRow, ImageStanding, ImageView};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{ApiError, FieldError};
use crate::http::api::chroots::add::{AddChroot, MAX_CHROOTS, check};
use crate::http::api::model::page::List;
use crate::http::auth::Admin;
use crate::http::extract::{ApiJson, Segments, segment};
use crate::state::AppState;

/// A place to build in.
#[derive(Debug, Serialize, ToSchema)]
pub struct Chroot {
    /// Its name.
    pub name: ChrootName,
    /// Its architecture.
    pub arch: String,
    /// Whether new builds may ask for it; what was accepted before goes on.
    pub enabled: bool,
    /// The image with the initialised chroot.
    pub image: String,
    /// The image that builders bake it from; null when it is made elsewhere.
    pub base: Option<String>,
    /// The name of mock's configuration inside the image.
    pub mock_root: ChrootName,
    /// When a fresh image was last asked for.
    pub refresh_asked_at: Option<DateTime<Utc>>,
    /// The image on the engines of live builders.
    pub images: Vec<ChrootImage>,
}

/// A chroot's image on a builder's engine.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChrootImage {
    /// The builder's name.
    pub builder: String,
    /// The builder's id.
    pub builder_id: BuilderId,
    /// How it stands with the image; one that is there serves builds whatever this is.
    pub state: ChrootImageState,
    /// Its digest; null when there is none.
    pub digest: Option<String>,
    /// When it was baked; null where that is not known.
    pub baked_at: Option<DateTime<Utc>>,
    /// Since when it is being baked, or when that failed.
    pub since: Option<DateTime<Utc>>,
    /// Why the last bake failed.
    pub error: Option<String>,
    /// When it is tried again.
    pub next_try_at: Option<DateTime<Utc>>,
}

/// How it stands with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChrootImageState {
    /// It is there and no bake is due.
    Ready,
    /// It is not there.
    Missing,
    /// It is being baked.
    Baking,
    /// The last bake failed.
    Failed,
}

/// List chroots
#[utoipa::path(
    get,
    path = "/api/v1/chroots",
    tag = "service",
    responses((status = 200, description = "All chroots, by name", body = List<Chroot>))
)]
pub async fn list_chroots(State(state): State<AppState>) -> Result<Json<List<Chroot>>, ApiError> {
    let items = all(&state).await?;
    Ok(Json(List { items }))
}

/// Add a chroot
#[utoipa::path(
    post,
    path = "/api/v1/chroots",
    tag = "service",
    request_body = AddChroot,
    responses(
        (status = 201, description = "The chroot; builders bake its image, and its first builds wait for that", body = Chroot),
        (status = "default", description = "Refused; nothing was stored", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn add_chroot(
    _: Admin,
    State(state): State<AppState>,
    ApiJson(request): ApiJson<AddChroot>,
) -> Result<(StatusCode, Json<Chroot>), ApiError> {
    let new = check(&request)?;
    match state.store.add_chroot(&new, MAX_CHROOTS).await? {
        ChrootAdded::Added => {}
        ChrootAdded::NameTaken => {
            let detail = format!("there is a chroot {} already", new.name);
            return Err(ApiError::Conflict { detail });
        }
        ChrootAdded::ImageTaken => {
            let told = FieldError::new("image", "another chroot has this image");
            return Err(told.accepted("a name of its own").into());
        }
        ChrootAdded::Full => {
            let detail =
                format!("there are {MAX_CHROOTS} chroots, which is as many as there may be");
            return Err(ApiError::Conflict { detail });
        }
    }
    tracing::info!(chroot = %new.name, image = new.image, "chroot added");
    let chroot = one(&state, &new.name).await?;
    Ok((StatusCode::CREATED, Json(chroot)))
}

/// Have a chroot's image baked anew
#[utoipa::path(
    post,
    path = "/api/v1/chroots/{name}/refresh",
    tag = "service",
    params(("name" = String, Path, description = "The chroot")),
    responses(
        (status = 200, description = "The chroot; each engine gets a fresh image in the background, builds go on with the present one", body = Chroot),
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
    let chroot = one(&state, &name).await?;
    if !is_asked {
        let detail = format!("chroot {name} has no base: its image is made elsewhere");
        return Err(ApiError::Conflict { detail });
    }
    tracing::info!(chroot = %name, "a fresh image was asked for");
    Ok(Json(chroot))
}

/// Disable a chroot
#[utoipa::path(
    post,
    path = "/api/v1/chroots/{name}/disable",
    tag = "service",
    params(("name" = String, Path, description = "The chroot")),
    responses(
        (status = 200, description = "The chroot; new builds may not ask for it, what was accepted before goes on", body = Chroot),
        (status = "default", description = "There is no such chroot", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn disable_chroot(
    _: Admin,
    State(state): State<AppState>,
    Segments(name): Segments<String>,
) -> Result<Json<Chroot>, ApiError> {
    turn(&state, &name, false).await
}

/// Enable a chroot
#[utoipa::path(
    post,
    path = "/api/v1/chroots/{name}/enable",
    tag = "service",
    params(("name" = String, Path, description = "The chroot")),
    responses(
        (status = 200, description = "The chroot; builds may ask for it", body = Chroot),
        (status = "default", description = "There is no such chroot", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn enable_chroot(
    _: Admin,
    State(state): State<AppState>,
    Segments(name): Segments<String>,
) -> Result<Json<Chroot>, ApiError> {
    turn(&state, &name, true).await
}

async fn turn(state: &AppState, name: &str, enabled: bool) -> Result<Json<Chroot>, ApiError> {
    let name: ChrootName = segment("chroot", name)?;
    if !state.store.enable_chroot(&name, enabled).await? {
        return Err(ApiError::unknown("chroot", name));
    }
    tracing::info!(chroot = %name, enabled, "chroot enabled or disabled");
    one(state, &name).await.map(Json)
}

async fn all(state: &AppState) -> Result<Vec<Chroot>, ApiError> {
    let chroots = state.store.list_chroots().await?;
    let mut images: HashMap<ChrootName, Vec<ChrootImage>> = HashMap::new();
    for view in state.store.list_images().await? {
        let of_chroot = images.entry(view.told.chroot.clone()).or_default();
        of_chroot.push(view.into());
    }
    let shown = chroots.into_iter().map(|row| {
        let images = images.remove(&row.name).unwrap_or_default();
        chroot(row, images)
    });
    Ok(shown.collect())
}

async fn one(state: &AppState, name: &ChrootName) -> Result<Chroot, ApiError> {
    let found = all(state).await?.into_iter().find(|one| one.name == *name);
    found.ok_or_else(|| ApiError::unknown("chroot", name))
}

fn chroot(row: ChrootRow, images: Vec<ChrootImage>) -> Chroot {
    Chroot {
        name: row.name,
        arch: row.arch,
        enabled: row.enabled,
        image: row.image,
        base: row.base,
        mock_root: row.mock_root,
        refresh_asked_at: row.refresh_asked_at,
        images,
    }
}

impl From<ImageView> for ChrootImage {
    fn from(view: ImageView) -> Self {
        Self {
            builder: view.builder,
            builder_id: view.builder_id,
            state: match view.told.standing {
                ImageStanding::Ready => ChrootImageState::Ready,
                ImageStanding::Missing => ChrootImageState::Missing,
                ImageStanding::Baking => ChrootImageState::Baking,
                ImageStanding::Failed => ChrootImageState::Failed,
            },
            digest: view.told.digest,
            baked_at: view.told.baked_at,
            since: view.told.since,
            error: view.told.error,
            next_try_at: view.told.next_try_at,
        }
    }
}
