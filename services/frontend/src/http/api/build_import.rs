//! `POST /api/v1/imports`: imports builds of another site, which keep their numbers, times and owners.

use axum::Json;
use axum::extract::State;
use millrace_chassis::Problem;
use millrace_domain::{Name, PollerId, PollerMode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{ApiError, FieldError};
use crate::http::auth::Admin;
use crate::http::extract::ApiJson;
use crate::http::legacy::import::{ImportEntry, ImportRules, validate_import};
use crate::state::AppState;

/// Builds in one request at most.
const MAX_BUILDS: usize = 500;

/// Builds of another site to be imported.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ImportRequest {
    /// Builds as the legacy list shows them, with `state` added; 1 to 500.
    pub builds: Vec<ImportEntry>,
    /// Whether waiting builds among them go to the queue, including those that were imported earlier.
    #[serde(default)]
    pub release: bool,
    /// Name of a poller that executes, which gets the waiting builds among them; to none when absent.
    #[serde(default)]
    pub poller: Option<String>,
}

/// The result of an import, by numbers of builds.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImportAnswer {
    /// Builds that this request imported.
    pub imported: Vec<i64>,
    /// Builds that had been imported earlier; they stay as they are.
    pub known: Vec<i64>,
    /// Waiting builds that were given to the queue or the poller.
    pub released: Vec<i64>,
}

/// Import builds of another site
#[utoipa::path(
    post, path = "/api/v1/imports", tag = "pollers",
    request_body = ImportRequest,
    responses(
        (status = 200, description = "All builds are imported; waiting ones are listed to pollers that watch, and are built only when they are released", body = ImportAnswer),
        (status = "default", description = "Refused; nothing was stored", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn import_builds(
    _: Admin,
    State(state): State<AppState>,
    ApiJson(request): ApiJson<ImportRequest>,
) -> Result<Json<ImportAnswer>, ApiError> {
    if !(1..=MAX_BUILDS).contains(&request.builds.len()) {
        let accepted = format!("1 to {MAX_BUILDS} builds");
        return Err(FieldError::new("builds", "too few or too many")
            .accepted(accepted)
            .into());
    }
    let poller = match &request.poller {
        Some(name) => Some(find_poller(&state, name).await?),
        None => None,
    };
    let rules = ImportRules {
        limits: &state.settings.limits,
        classes: &state.settings.memory_classes,
        max_sources: state.settings.config.caps.max_sources,
    };
    let builds = request
        .builds
        .iter()
        .enumerate()
        .map(|(at, entry)| validate_import(at, entry, &rules))
        .collect::<Result<Vec<_>, _>>()?;
    let import = state.store.import_builds(&builds).await?;
    if let Some(first) = import.taken.first() {
        let detail = format!("build {first} is one of this site's own; nothing was imported");
        return Err(ApiError::Conflict { detail });
    }
    let ids: Vec<i64> = builds.iter().map(|build| build.id).collect();
    let released = if request.release || poller.is_some() {
        state.store.release_imported(&ids, poller).await?
    } else {
        Vec::new()
    };
    state.relay_wake.notify_one();
    tracing::info!(
        imported = import.imported.len(),
        known = import.known.len(),
        released = released.len(),
        "builds imported"
    );
    Ok(Json(ImportAnswer {
        imported: import.imported,
        known: import.known,
        released,
    }))
}

/// Finds the poller that waiting builds are given to.
async fn find_poller(state: &AppState, name: &str) -> Result<PollerId, ApiError> {
    let refused =
        |reason: &str| FieldError::new("poller", reason).accepted("a poller that executes");
    let name: Name = name
        .parse()
        .map_err(|error| FieldError::new("poller", error))?;
    let poller = state.store.find_poller(&name).await?;
    let poller = poller.ok_or_else(|| refused("there is no such poller"))?;
    if poller.mode != PollerMode::Execute {
        return Err(refused("it only watches").into());
    }
    Ok(poller.id)
}
