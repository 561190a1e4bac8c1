//! `POST /api/v1/imports`: builds of another site, with their numbers, times and owners.

use axum::Json;
use axum::extract::State;
use millrace_chassis::Problem;
use millrace_domain::{Name, PollerMode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{ApiError, FieldError};
use crate::http::auth::Admin;
use crate::http::extract::ApiJson;
use crate::http::legacy::import::{ImportEntry, Measures, check_import};
use crate::state::AppState;

/// Builds of one request at most.
const MAX_BUILDS: usize = 500;

/// Builds to be moved here.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ImportRequest {
    /// As the legacy list shows them, with `state`; 1 to 500.
    pub builds: Vec<ImportEntry>,
    /// Gives those that wait to the queue, also those that were imported before.
    #[serde(default)]
    pub release: bool,
    /// Gives those that wait to this poller, which must be one that executes.
    #[serde(default)]
    pub poller: Option<String>,
}

/// What became of an import.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImportAnswer {
    /// Builds that are new here.
    pub imported: Vec<i64>,
    /// Builds that had been imported before; they stay as they are.
    pub known: Vec<i64>,
    /// Waiting builds that the queue or the poller has from now on.
    pub released: Vec<i64>,
}

/// Import builds of another site
#[utoipa::path(
    post, path = "/api/v1/imports", tag = "pollers",
    request_body = ImportRequest,
    responses(
        (status = 200, description = "All are here; those that wait are listed to pollers that watch, and nobody builds them unless they are released", body = ImportAnswer),
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
    let measures = Measures {
        limits: &state.settings.limits,
        classes: &state.settings.memory_classes,
        max_sources: state.settings.config.caps.max_sources,
    };
    let builds = request
        .builds
        .iter()
        .enumerate()
        .map(|(at, entry)| check_import(at, entry, &measures))
        .collect::<Result<Vec<_>, _>>()?;
    let done = state.store.import_builds(&builds).await?;
    if let Some(first) = done.taken.first() {
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
        imported = done.imported.len(),
        known = done.known.len(),
        released = released.len(),
        "builds imported"
    );
    Ok(Json(ImportAnswer {
        imported: done.imported,
        known: done.known,
        released,
    }))
}

async fn find_poller(state: &AppState, name: &str) -> Result<millrace_domain::PollerId, ApiError> {
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
