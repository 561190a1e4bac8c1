//! `POST /builder/v1/chroots`: the builder reports its engine's chroot images and gets the list of chroots to have images
//! of. One call that the builder repeats every few seconds, so a lost one costs nothing.

use chrono::{DateTime, Utc};
use millrace_domain::ChrootName;
use serde::{Deserialize, Serialize};

/// Report of a builder's chroot images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ChrootsRequest {
    /// All chroot images of its engine; absent when nothing has changed since the last report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Vec<ChrootImage>>,
}

/// The image of one chroot on a builder's engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ChrootImage {
    /// Name of the chroot that the image is of.
    pub chroot: ChrootName,
    /// State of the image.
    pub state: ImageState,
    /// Digest of the image that builds get now; absent when there is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// When that image was baked, from its label; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baked_at: Option<DateTime<Utc>>,
    /// When its current bake began, or when its last bake failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Why the last bake failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When a failed bake is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try_at: Option<DateTime<Utc>>,
}

/// State of a chroot's image on an engine. An existing image serves builds in each of these states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageState {
    /// The image exists and no bake is due.
    Ready,
    /// There is no image; where the chroot has a base, its bake comes next.
    Missing,
    /// A bake is running, by this builder or by another one on its engine.
    Baking,
    /// The last bake failed.
    Failed,
    /// A state of a newer builder.
    #[serde(other)]
    Other,
}

/// Answer to the report: the chroots to have images of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ChrootsAnswer {
    /// Chroots of the builder's architectures that builds may need.
    pub chroots: Vec<ChrootOrder>,
}

/// A chroot whose image a builder bakes and renews.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ChrootOrder {
    /// Name of the chroot.
    pub name: ChrootName,
    /// The name of its image on the engine.
    pub image: String,
    /// Name of the base image that it is baked from; absent when the image is made outside of Millrace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The name of mock's configuration inside the base.
    pub mock_root: ChrootName,
    /// How long ago a fresh image was asked for, in milliseconds: a length, since the clocks of frontend and builder differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_asked_ms_ago: Option<u64>,
}
