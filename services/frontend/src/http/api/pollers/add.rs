//! `POST /api/v1/pollers`: makes a poller known, and shows its address and password once.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use millrace_chassis::Problem;
use millrace_domain::{ChrootName, Fence, PollerMode};
use millrace_store::NewPoller;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::builds::submit::validate::validate_project;
use crate::error::{ApiError, FieldError};
use crate::http::api::pollers::access::{PollerAccess, Secrets};
use crate::http::auth::Admin;
use crate::http::extract::ApiJson;
use crate::state::AppState;

/// Projects, and chroots, that a poller's rules name at most.
const MAX_RULES: usize = 100;

/// A poller to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddPoller {
    /// Name of the poller, unique among the present ones.
    pub name: String,
    /// `observe`: it only watches; `execute`: it builds, and what is routed to it does not go to the queue.
    pub mode: PollerMode,
    /// Only builds of these projects (`owner/name`) are routed to it; of all when empty.
    #[serde(default)]
    pub projects: Vec<String>,
    /// Only builds whose chroots are all among these are routed to it; in all when empty.
    #[serde(default)]
    pub chroots: Vec<ChrootName>,
    /// Percentage of these builds that are routed to it, from 0 to 100; 100 when absent.
    #[serde(default)]
    pub share: Option<u32>,
    /// The answer to a start report for a build that is not its own any more: `ignore` (200) or `reject` (409);
    /// `ignore` when absent.
    #[serde(default)]
    pub fence: Option<Fence>,
}

/// Add a poller and show its address and password
#[utoipa::path(
    post, path = "/api/v1/pollers", tag = "pollers",
    request_body = AddPoller,
    responses(
        (status = 201, description = "The poller with its address and password, shown this once", body = PollerAccess),
        (status = "default", description = "Refused; nothing was stored", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn add_poller(
    _: Admin,
    State(state): State<AppState>,
    ApiJson(new): ApiJson<AddPoller>,
) -> Result<(StatusCode, Json<PollerAccess>), ApiError> {
    let secrets = Secrets::generate()?;
    let silence_seconds = state.settings.config.legacy.legacy_silence_seconds;
    let new = validate(new, &secrets, silence_seconds)?;
    if !state.store.add_poller(&new).await? {
        let detail = format!(
            "there is a poller {} already; rotate gives it a new address",
            new.name
        );
        return Err(ApiError::Conflict { detail });
    }
    tracing::info!(poller = %new.name, mode = %new.mode, "poller added");
    let access = PollerAccess::load(&state, &new.name, &secrets).await?;
    Ok((StatusCode::CREATED, Json(access)))
}

/// Converts the request to the poller to be stored, or says which field cannot be accepted.
fn validate(
    new: AddPoller,
    secrets: &Secrets,
    silence_seconds: u32,
) -> Result<NewPoller, FieldError> {
    let name = new
        .name
        .parse()
        .map_err(|error| FieldError::new("name", error))?;
    for project in &new.projects {
        validate_project(project).map_err(|error| FieldError {
            field: "projects".to_owned(),
            ..error
        })?;
    }
    for (field, count) in [
        ("projects", new.projects.len()),
        ("chroots", new.chroots.len()),
    ] {
        if count > MAX_RULES {
            return Err(FieldError::new(field, "too many").accepted(format!("at most {MAX_RULES}")));
        }
    }
    let share_percent = new.share.unwrap_or(100);
    if share_percent > 100 {
        return Err(FieldError::new("share", "more than all").accepted("0 to 100"));
    }
    Ok(NewPoller {
        name,
        mode: new.mode,
        token_hash: secrets.token.hash(),
        secret_hash: secrets.password.hash(),
        projects: new.projects,
        chroots: new.chroots,
        share_percent,
        fence: new.fence.unwrap_or(Fence::Ignore),
        silence_seconds,
    })
}
