//! A chroot with its images, as the API shows it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use millrace_domain::{BuilderId, ChrootName};
use millrace_store::{ChrootRow, ImageStanding, ImageView};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::state::AppState;

/// Chroots at most: each builder asks for all that it serves every few seconds.
pub const MAX_CHROOTS: u32 = 500;

/// A chroot: a named release, version and architecture for which packages are built.
#[derive(Debug, Serialize, ToSchema)]
pub struct Chroot {
    /// Name of the form `<distribution>-<version>-<architecture>`.
    pub name: ChrootName,
    /// Architecture, the last part of the name.
    pub arch: String,
    /// Whether new builds may ask for it; builds accepted earlier go on either way.
    pub enabled: bool,
    /// Name of the image with the initialised chroot, on the engines of builders.
    pub image: String,
    /// Name of the image that builders bake it from; null when it is made elsewhere.
    pub base: Option<String>,
    /// Name of mock's configuration inside the image.
    pub mock_root: ChrootName,
    /// When a fresh image was last asked for; null when it never was.
    pub refresh_asked_at: Option<DateTime<Utc>>,
    /// State of the image on the engine of each live builder, as that last reported it.
    pub images: Vec<ChrootImage>,
}

/// A chroot's image on a builder's engine.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChrootImage {
    /// Name of the builder that reported it.
    pub builder: String,
    /// Id of the builder that reported it.
    pub builder_id: BuilderId,
    /// State of the image; an image that is present serves builds whatever this is.
    pub state: ChrootImageState,
    /// Digest of the present image; null when there is none.
    pub digest: Option<String>,
    /// When the present image was baked; null where that is not known.
    pub baked_at: Option<DateTime<Utc>>,
    /// When the running bake began, or the last one failed; null in other states.
    pub since: Option<DateTime<Utc>>,
    /// Why the last bake failed; null unless it did.
    pub error: Option<String>,
    /// When a failed bake is retried; null unless one failed.
    pub next_try_at: Option<DateTime<Utc>>,
}

/// State of a chroot's image on an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChrootImageState {
    /// The image is present and no bake is due.
    Ready,
    /// The image is absent and not being baked.
    Missing,
    /// The image is being baked, for the first time or anew.
    Baking,
    /// The last bake of the image failed.
    Failed,
}

/// Reads all chroots, by name.
pub async fn load_all(state: &AppState) -> Result<Vec<Chroot>, ApiError> {
    let chroots = state.store.list_chroots().await?;
    let mut images: HashMap<ChrootName, Vec<ChrootImage>> = HashMap::new();
    for view in state.store.list_images().await? {
        let of_chroot = images.entry(view.report.chroot.clone()).or_default();
        of_chroot.push(view.into());
    }
    let with_images = chroots.into_iter().map(|row| {
        let images = images.remove(&row.name).unwrap_or_default();
        Chroot::new(row, images)
    });
    Ok(with_images.collect())
}

/// Reads a chroot by its name.
pub async fn load(state: &AppState, name: &ChrootName) -> Result<Chroot, ApiError> {
    let chroots = load_all(state).await?;
    let found = chroots.into_iter().find(|chroot| chroot.name == *name);
    found.ok_or_else(|| ApiError::unknown("chroot", name))
}

impl Chroot {
    fn new(row: ChrootRow, images: Vec<ChrootImage>) -> Self {
        Self {
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
}

impl From<ImageView> for ChrootImage {
    fn from(view: ImageView) -> Self {
        Self {
            builder: view.builder,
            builder_id: view.builder_id,
            state: match view.report.standing {
                ImageStanding::Ready => ChrootImageState::Ready,
                ImageStanding::Missing => ChrootImageState::Missing,
                ImageStanding::Baking => ChrootImageState::Baking,
                ImageStanding::Failed => ChrootImageState::Failed,
            },
            digest: view.report.digest,
            baked_at: view.report.baked_at,
            since: view.report.since,
            error: view.report.error,
            next_try_at: view.report.next_try_at,
        }
    }
}
