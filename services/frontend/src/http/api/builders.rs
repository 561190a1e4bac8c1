//! `GET /api/v1/builders`: the builders, with their offers and what keeps them from work.

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

/// A builder, as its enrolment and its last heartbeat describe it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Builder {
    /// Identity of the builder, kept over restarts.
    pub id: BuilderId,
    /// Name of the builder, for people; need not be unique.
    pub name: String,
    /// Whether it was last heard from less than 25 seconds ago; only such builders get work.
    pub live: bool,
    /// Identity of the container engine; builders with the same one share its memory.
    pub engine_id: String,
    /// Architectures that it can build.
    pub archs: Vec<String>,
    /// Memory that it offers, in MiB.
    pub memory_mib: u32,
    /// Memory that was free at its last heartbeat, in MiB.
    pub free_mib: u32,
    /// Sandboxes that it runs at once, at most.
    pub sandboxes: u32,
    /// Sandboxes that it could start at its last heartbeat.
    pub free_sandboxes: u32,
    /// Whether it takes no work because its spool's disk is short of space.
    pub short_of_disk: bool,
    /// Space that is free on that disk, in MiB; 0 when a write failed, null unless it is short.
    pub disk_free_mib: Option<u32>,
    /// Space that must be free there for it to take work, in MiB (`MILLRACE_SPOOL_FLOOR_MB`); null unless it is short.
    pub disk_floor_mib: Option<u32>,
    /// Images of chroots that job messages asked for and that its engine lacks.
    pub missing_images: Vec<String>,
    /// Version of the builder program.
    pub version: String,
    /// Whether it is stopping: it finishes its attempts and takes no more.
    pub stopping: bool,
    /// When an administrator drained it, so that it gets no work; null unless it is drained.
    pub drained_at: Option<DateTime<Utc>>,
    /// When it was set aside because of repeated faults, so that it gets no work; null unless it is. It returns when
    /// its self-test has passed.
    pub set_aside_at: Option<DateTime<Utc>>,
    /// The faults for which it was set aside; null unless it is.
    pub set_aside_reason: Option<String>,
    /// When it first enrolled.
    pub enrolled_at: DateTime<Utc>,
    /// When it last enrolled or sent a heartbeat.
    pub last_seen_at: DateTime<Utc>,
}

/// List builders with their offers
#[utoipa::path(
    get,
    path = "/api/v1/builders",
    tag = "service",
    responses((status = 200, description = "All builders", body = List<Builder>))
)]
pub async fn list_builders(State(state): State<AppState>) -> Result<Json<List<Builder>>, ApiError> {
    let days = i64::from(state.settings.config.keep.keep_builders_days);
    let oldest = TimeDelta::try_days(days).and_then(|kept| Utc::now().checked_sub_signed(kept));
    let builders = state.store.list_builders().await?;
    // Attempts that name a builder keep its row for ever; the list shows recent builders only.
    let is_recent = |view: &BuilderView| oldest.is_none_or(|oldest| view.last_seen_at >= oldest);
    let items = builders
        .into_iter()
        .filter(is_recent)
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
