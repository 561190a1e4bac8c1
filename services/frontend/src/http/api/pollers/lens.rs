//! `GET /api/v1/pollers/{name}/lens`: the exchange with a poller from the poller's side. Reads only, so that an
//! operator can look at any time.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use millrace_chassis::Problem;
use millrace_domain::{BuildId, TaskState};
use millrace_store::{Owned, PollerCaller};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::http::api::pollers::model::{Poller, load};
use crate::http::auth::Admin;
use crate::http::extract::{Segments, segment};
use crate::http::legacy::list::Shape;
use crate::http::legacy::query::DEFAULT_LIMIT;
use crate::http::legacy::waiting_builds::peek;
use crate::state::AppState;

/// Tasks that the answer shows at most.
const MAX_OWNED: u32 = 1000;

/// The exchange with a poller: its next list, its last list, its last report, and the tasks it has.
#[derive(Debug, Serialize, ToSchema)]
pub struct Lens {
    /// The poller that the exchange is with.
    pub poller: Poller,
    /// Text of the list that it would get now, to the byte.
    pub answer: String,
    /// Numbers of the builds in the list that it last got.
    pub fetched: Vec<i64>,
    /// Body of its last report; null when it has not reported.
    pub reported: Option<Value>,
    /// Tasks that it has claimed and not ended.
    pub owned: Vec<OwnedTask>,
}

/// A task that a poller has claimed.
#[derive(Debug, Serialize, ToSchema)]
pub struct OwnedTask {
    /// Number of the task's build.
    pub build_id: BuildId,
    /// Chroot that the task is built in.
    pub chroot: String,
    /// `queued` until the poller reports its start, `running` from then on.
    pub state: TaskState,
    /// When the poller claimed it.
    pub since: DateTime<Utc>,
    /// When the claim runs out; each poll extends it while the task is `queued`.
    pub until: DateTime<Utc>,
    /// Whether the poller has reported a success that counts only once its results were found.
    pub is_reported: bool,
}

/// Show what a poller gets and reports
#[utoipa::path(
    get, path = "/api/v1/pollers/{name}/lens", tag = "pollers",
    params(("name" = String, Path, description = "Name of the poller")),
    responses(
        (status = 200, description = "Its next list, its last list, its last report and the tasks it has claimed; reading changes nothing", body = Lens),
        (status = "default", description = "There is no such poller", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin" = []))
)]
pub async fn poller_lens(
    _: Admin,
    State(state): State<AppState>,
    Segments(name): Segments<String>,
) -> Result<Json<Lens>, ApiError> {
    let view = load(&state, &segment("poller", &name)?).await?;
    let caller = PollerCaller {
        id: view.id,
        name: view.name.clone(),
        mode: view.mode,
        fence: view.fence,
        secret_hash: Vec::new(),
    };
    let list = peek(&state, &caller, DEFAULT_LIMIT).await?;
    let owned = state.store.owned_by_poller(view.id, MAX_OWNED).await?;
    Ok(Json(Lens {
        answer: String::from_utf8_lossy(&list.to_json(Shape::All)).into_owned(),
        fetched: view.fetched.clone(),
        reported: view.reported.clone(),
        owned: owned.into_iter().map(OwnedTask::from).collect(),
        poller: view.into(),
    }))
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
