//! `POST /builder/v1/chroots`: which chroots a builder keeps images of, and how those images are on its engine. Both in
//! one call that the builder repeats every few seconds; a lost one is made good by the next.

use chrono::{DateTime, Utc};
use millrace_domain::ChrootName;
use serde::{Deserialize, Serialize};

/// What a builder says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ChrootsRequest {
    /// All images that it keeps; absent when nothing has changed since it last told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Vec<ChrootImage>>,
}

/// The image of one chroot on a builder's engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ChrootImage {
    /// Name of the chroot that the image is of.
    pub chroot: ChrootName,
    /// How it stands with it.
    pub state: ImageState,
    /// The digest of the image that builds get now; none when there is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// When that image was baked, where its label tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baked_at: Option<DateTime<Utc>>,
    /// Since when it is being baked, or when that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Why the last bake failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try_at: Option<DateTime<Utc>>,
}

/// How it stands with an image. An image that is there serves builds in each of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageState {
    /// It is there and no bake is due.
    Ready,
    /// It is not there; where the chroot has a base, its bake comes next.
    Missing,
    /// It is being baked, by this builder or by another one on its engine.
    Baking,
    /// The last bake failed.
    Failed,
    /// Something that a newer builder knows of.
    #[serde(other)]
    Other,
}

/// What a builder hears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ChrootsAnswer {
    /// Chroots of the builder's architectures that builds may need.
    pub chroots: Vec<ChrootOrder>,
}

/// A chroot whose image a builder keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ChrootOrder {
    /// Name of the chroot.
    pub name: ChrootName,
    /// The name of its image on the engine.
    pub image: String,
    /// The image that it is baked from; none when it is made elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The name of mock's configuration inside the base.
    pub mock_root: ChrootName,
    /// How long ago a fresh image was asked for, in milliseconds: a length, since the clocks of frontend and builder differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_asked_ms_ago: Option<u64>,
}
