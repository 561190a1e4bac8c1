//! `/api/v1/pollers`: pollers of 2012 that are known by name. Their tokens and passwords are told once and stored as
//! digests.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use millrace_chassis::{Problem, random_bytes};
use millrace_domain::{BuildId, ChrootName, Fence, Name, PollerMode, TaskState, Token};
use millrace_store::{NewPoller, Owned, PollerCaller, PollerView};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::builds::submit::validate::check_project;
use crate::error::{ApiError, FieldError};
use crate::http::api::model::page::List;
use crate::http::auth::Admin;
use crate::http::extract::{ApiJson, Segments, segment};
use crate::http::legacy::list::Shape;
use crate::http::legacy::waiting_builds::peek;
use crate::state::AppState;

/// Projects or chroots that a rule names at most.
const MAX_RULES: usize = 100;
/// Builds that a poller of 2012 asks for.
const LISTED: u32 = 10;
/// Tasks that a lens shows at most.
const MAX_OWNED: u32 = 1000;

/// A poller to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddPoller {
    /// Its name.
    pub name: String,
    /// `observe`: it watches; `execute`: it builds, and what is routed to it is kept from the queue.
    pub mode: PollerMode,
    /// Only builds of these projects (`owner/name`) are routed to it; of all when empty.
    #[serde(default)]
    pub projects: Vec<String>,
    /// Only builds in none but these chroots are routed to it; in all when empty.
    #[serde(default)]
    pub chroots: Vec<ChrootName>,
    /// So many of a hundred of these builds; 100 when absent.
    #[serde(default)]
    pub share: Option<u32>,
    /// The answer to a start report for a build that is not its own any more: `ignore` (200) or `reject` (409); `ignore`
    /// when absent.
    #[serde(default)]
    pub fence: Option<Fence>,
}

/// A poller.
#[derive(Debug, Serialize, ToSchema)]
pub struct Poller {
    /// Its name.
    pub name: Name,
    /// What it does.
    pub mode: PollerMode,
    /// Projects whose builds are routed to it; all when empty.
    pub projects: Vec<String>,
    /// Chroots whose builds are routed to it; all when empty.
    pub chroots: Vec<ChrootName>,
    /// So many of a hundred of these builds.
    pub share: u32,
    /// The answer to a start report for a build that is not its own any more.
    pub fence: Fence,
    /// Whether it has polled lately, or was made lately: only then builds are routed to it.
    pub alive: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last got its list.
    pub fetched_at: Option<DateTime<Utc>>,
    /// When it last reported.
    pub reported_at: Option<DateTime<Utc>>,
}

/// A poller with what it needs; shown once.
#[derive(Debug, Serialize, ToSchema)]
pub struct PollerAccess {
    #[serde(flatten)]
    #[schema(inline)]
    poller: Poller,
    /// The frontend's address in its configuration.
    url: String,
    /// Its password for reports, with any user name.
    secret: String,
}

/// What a poller would be answered, was answered, said and has.
#[derive(Debug, Serialize, ToSchema)]
pub struct Lens {
    /// The poller.
    pub poller: Poller,
    /// Its next list, to the byte.
    pub answer: String,
    /// Builds in its last list.
    pub fetched: Vec<i64>,
    /// What it reported last.
    pub reported: Option<Value>,
    /// What it has.
    pub owned: Vec<OwnedTask>,
}

/// A task that a poller has.
#[derive(Debug, Serialize, ToSchema)]
pub struct OwnedTask {
    /// Its build.
    pub build_id: BuildId,
    /// Where it is built.
    pub chroot: String,
    /// `queued` until the poller reports its start, `running` from then on.
    pub state: TaskState,
    /// Since when the poller has it.
    pub since: DateTime<Utc>,
    /// Until when; polling puts that off while it is `queued`.
    pub until: DateTime<Utc>,
    /// Whether its success waits for its results to be seen.
    pub is_reported: bool,
}

/// List pollers
#[utoipa::path(
    get, path = "/api/v1/pollers", tag = "pollers",
    responses(
        (status = 200, description = "All of them, by name", body = List<Poller>),
        (status = "default", description = "The token is missing or wrong", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn list_pollers(
    _: Admin,
    State(state): State<AppState>,
) -> Result<Json<List<Poller>>, ApiError> {
    let pollers = state.store.list_pollers().await?;
    let items = pollers.into_iter().map(Poller::from).collect();
    Ok(Json(List { items }))
}

/// Add a poller
#[utoipa::path(
    post, path = "/api/v1/pollers", tag = "pollers",
    request_body = AddPoller,
    responses(
        (status = 201, description = "It is known; its address and password are shown this once", body = PollerAccess),
        (status = "default", description = "Refused; nothing was stored", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn add_poller(
    _: Admin,
    State(state): State<AppState>,
    ApiJson(new): ApiJson<AddPoller>,
) -> Result<(StatusCode, Json<PollerAccess>), ApiError> {
    let (token, secret) = (fresh()?, fresh()?);
    let silence_seconds = state.settings.config.legacy.legacy_silence_seconds;
    let new = check(new, &token, &secret, silence_seconds)?;
    if !state.store.add_poller(&new).await? {
        let detail = format!(
            "there is a poller {} already; rotate gives it a new address",
            new.name
        );
        return Err(ApiError::Conflict { detail });
    }
    tracing::info!(poller = %new.name, mode = %new.mode, "poller added");
    let access = access(&state, &new.name, &token, &secret).await?;
    Ok((StatusCode::CREATED, Json(access)))
}

/// Show a poller
#[utoipa::path(
    get, path = "/api/v1/pollers/{name}", tag = "pollers",
    params(("name" = String, Path, description = "The poller's name")),
    responses(
        (status = 200, description = "The poller", body = Poller),
        (status = "default", description = "There is no such poller", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn show_poller(
    _: Admin,
    State(state): State<AppState>,
    Segments(name): Segments<String>,
) -> Result<Json<Poller>, ApiError> {
    let name = segment("poller", &name)?;
    Ok(Json(find(&state, &name).await?.into()))
}

/// Remove a poller
#[utoipa::path(
    delete, path = "/api/v1/pollers/{name}", tag = "pollers",
    params(("name" = String, Path, description = "The poller's name")),
    responses(
        (status = 200, description = "As it was; its address and password are void, and what it has goes to the queue", body = Poller),
        (status = "default", description = "There is no such poller", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn remove_poller(
    _: Admin,
    State(state): State<AppState>,
    Segments(name): Segments<String>,
) -> Result<Json<Poller>, ApiError> {
    let name: Name = segment("poller", &name)?;
    let poller = find(&state, &name).await?;
    if !state.store.remove_poller(&name).await? {
        return Err(ApiError::unknown("poller", name));
    }
    tracing::info!(poller = %name, "poller removed");
    Ok(Json(poller.into()))
}

/// Give a poller a new address and password
#[utoipa::path(
    post, path = "/api/v1/pollers/{name}/rotate", tag = "pollers",
    params(("name" = String, Path, description = "The poller's name")),
    responses(
        (status = 200, description = "The new ones, shown this once; the old ones are void", body = PollerAccess),
        (status = "default", description = "There is no such poller", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn rotate_poller(
    _: Admin,
    State(state): State<AppState>,
    Segments(name): Segments<String>,
) -> Result<Json<PollerAccess>, ApiError> {
    let name: Name = segment("poller", &name)?;
    let (token, secret) = (fresh()?, fresh()?);
    let rotated = state
        .store
        .rotate_poller(&name, &token.hash(), &secret.hash())
        .await?;
    if !rotated {
        return Err(ApiError::unknown("poller", name));
    }
    tracing::info!(poller = %name, "poller's address and password changed");
    Ok(Json(access(&state, &name, &token, &secret).await?))
}

/// Look through a poller's eyes
#[utoipa::path(
    get, path = "/api/v1/pollers/{name}/lens", tag = "pollers",
    params(("name" = String, Path, description = "The poller's name")),
    responses(
        (status = 200, description = "What it would be answered now, was answered, reported and has; nothing changes by it", body = Lens),
        (status = "default", description = "There is no such poller", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn poller_lens(
    _: Admin,
    State(state): State<AppState>,
    Segments(name): Segments<String>,
) -> Result<Json<Lens>, ApiError> {
    let view = find(&state, &segment("poller", &name)?).await?;
    let caller = PollerCaller {
        id: view.id,
        name: view.name.clone(),
        mode: view.mode,
        fence: view.fence,
        secret_hash: Vec::new(),
    };
    let list = peek(&state, &caller, LISTED).await?;
    let owned = state.store.owned_by_poller(view.id, MAX_OWNED).await?;
    Ok(Json(Lens {
        answer: String::from_utf8_lossy(&list.to_json(Shape::All)).into_owned(),
        fetched: view.fetched.clone(),
        reported: view.reported.clone(),
        owned: owned.into_iter().map(OwnedTask::from).collect(),
        poller: view.into(),
    }))
}

fn fresh() -> Result<Token, ApiError> {
    random_bytes()
        .map(Token::from_bytes)
        .map_err(ApiError::internal)
}

async fn find(state: &AppState, name: &Name) -> Result<PollerView, ApiError> {
    let found = state.store.find_poller(name).await?;
    found.ok_or_else(|| ApiError::unknown("poller", name))
}

async fn access(
    state: &AppState,
    name: &Name,
    token: &Token,
    secret: &Token,
) -> Result<PollerAccess, ApiError> {
    Ok(PollerAccess {
        poller: find(state, name).await?.into(),
        url: state.settings.links.poller(token),
        secret: secret.expose().to_owned(),
    })
}

/// The poller to be stored, or what cannot be accepted.
fn check(
    new: AddPoller,
    token: &Token,
    secret: &Token,
    silence_seconds: u32,
) -> Result<NewPoller, FieldError> {
    let name = new
        .name
        .parse()
        .map_err(|error| FieldError::new("name", error))?;
    for project in &new.projects {
        check_project(project).map_err(|error| FieldError {
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
        token_hash: token.hash(),
        secret_hash: secret.hash(),
        projects: new.projects,
        chroots: new.chroots,
        share_percent,
        fence: new.fence.unwrap_or(Fence::Ignore),
        silence_seconds,
    })
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

impl From<Owned> for OwnedTask {
    fn from(owned: Owned) -> Self {
        Self {
            build_id: owned.build_id,
            chroot: owned.chroot,
            state: owned.state,
            since: owned.since,
            until: owned.until,
            is_reported: owned.is_reported,
        }
    }
}
