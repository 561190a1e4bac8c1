//! A poller as the API shows it.

use chrono::{DateTime, Utc};
use millrace_domain::{ChrootName, Fence, Name, PollerMode};
use millrace_store::PollerView;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::state::AppState;

/// A poller of 2012 that is known by name.
#[derive(Debug, Serialize, ToSchema)]
pub struct Poller {
    /// Name of the poller, unique among the present ones.
    pub name: Name,
    /// Whether it only watches (`observe`) or builds what is routed to it (`execute`).
    pub mode: PollerMode,
    /// Projects (`owner/name`) whose builds are routed to it; all when empty.
    pub projects: Vec<String>,
    /// Chroots whose builds are routed to it; all when empty.
    pub chroots: Vec<ChrootName>,
    /// Percentage of these builds that are routed to it, from 0 to 100.
    pub share: u32,
    /// How a start report is answered for a build that is not its own any more.
    pub fence: Fence,
    /// Whether it has polled lately, or was added lately: only then builds are routed to it.
    pub alive: bool,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// When it last got its list; null when it never has.
    pub fetched_at: Option<DateTime<Utc>>,
    /// When it last reported; null when it never has.
    pub reported_at: Option<DateTime<Utc>>,
}

/// Reads a poller by its name.
pub async fn load(state: &AppState, name: &Name) -> Result<PollerView, ApiError> {
    let found = state.store.find_poller(name).await?;
    found.ok_or_else(|| ApiError::unknown("poller", name))
}

impl From<PollerView> for Poller {
    fn from(view: PollerView) -> Self {
        Self {
            name: view.name,
            mode: view.mode,
            projects: view.projects,
            chroots: view.chroots,
            share: view.share_percent,
            fence: view.fence,
            alive: view.alive,
            created_at: view.created_at,
            fetched_at: view.fetched_at,
            reported_at: view.reported_at,
        }
    }
}
