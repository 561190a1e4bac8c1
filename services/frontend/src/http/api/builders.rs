//! `GET /api/v1/builders`: who builds.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, TimeDelta, Utc};
use millrace_domain::BuilderId;
use millrace_store::BuilderView;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::http::api::model::page::List;
use crate::state::AppState;

/// A builder as it last described itself.
#[derive(Debug, Serialize, ToSchema)]
pub struct Builder {
    /// Its id, kept over restarts.
    pub id: BuilderId,
    /// Its name.
    pub name: String,
    /// Whether it was heard of lately.
    pub live: bool,
    /// The engine whose memory it shares with others.
    pub engine_id: String,
    /// Architectures that it can build.
    pub archs: Vec<String>,
    /// Memory that it offers, in MiB.
    pub memory_mib: u32,
    /// What is left of it, in MiB.
    pub free_mib: u32,
    /// Sandboxes that it runs at once.
    pub sandboxes: u32,
    /// What is left of them.
    pub free_sandboxes: u32,
    /// Whether it takes no work because its spool's disk is short of space.
    pub short_of_disk: bool,
    /// Then what is free there, in MiB; 0 when a write failed.
    pub disk_free_mib: Option<u32>,
    /// Then what it wants to be free, in MiB (`MILLRACE_SPOOL_FLOOR_MB`).
    pub disk_floor_mib: Option<u32>,
    /// Images of chroots that were asked for and that its engine lacks.
    pub missing_images: Vec<String>,
    /// Its program's version.
    pub version: String,
    /// Whether it stops: it finishes what it has and takes nothing more.
    pub stopping: bool,
    /// Since when it gets no work because an administrator drained it.
    pub drained_at: Option<DateTime<Utc>>,
    /// Since when it gets no work because of repeated faults of its own; it returns when its self-test has passed.
    pub set_aside_at: Option<DateTime<Utc>>,
    /// Those faults.
    pub set_aside_reason: Option<String>,
    /// When it first came.
    pub enrolled_at: DateTime<Utc>,
    /// When it was last heard of.
    pub last_seen_at: DateTime<Utc>,
}

/// List builders
#[utoipa::path(
    get,
    path = "/api/v1/builders",
    tag = "service",
    responses((status = 200, description = "All builders", body = List<Builder>))
)]
pub async fn list_builders(State(state): State<AppState>) -> Result<Json<List<Builder>>, ApiError> {
    let days = i64::from(state.settings.config.keep.keep_builders_days);
    let forgotten = TimeDelta::try_days(days).and_then(|kept| Utc::now().checked_sub_signed(kept));
    let builders = state.store.list_builders().await?;
    // Attempts may name a builder for ever; nobody wants to see it for as long.
    let known = |view: &BuilderView| forgotten.is_none_or(|since| view.last_seen_at >= since);
    let items = builders
        .into_iter()
        .filter(known)
        .map(Builder::from)
        .collect();
    Ok(Json(List { items }))
}

impl From<BuilderView> for Builder {
    fn from(view: BuilderView) -> Self {
        Self {
            id: view.id,
            name: view.name,
            live: view.live,
            engine_id: view.engine_id,
            archs: view.archs,
            memory_mib: view.memory_mib,
            free_mib: view.free_mib,
            sandboxes: view.sandboxes,
            free_sandboxes: view.free_sandboxes,
            short_of_disk: view.blockers.disk.is_some(),
            disk_free_mib: view.blockers.disk.map(|disk| disk.free_mib),
            disk_floor_mib: view.blockers.disk.map(|disk| disk.floor_mib),
            missing_images: view.blockers.missing_images,
            version: view.version,
            stopping: view.stopping,
            drained_at: view.drained_at,
            set_aside_at: view.set_aside_at,
            set_aside_reason: view.set_aside_reason,
            enrolled_at: view.enrolled_at,
            last_seen_at: view.last_seen_at,
        }
    }
}
