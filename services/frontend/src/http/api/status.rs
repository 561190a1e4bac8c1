//! `GET /api/v1/status`: the state of the service on one page. Answers also while the frontend starts.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::api::health::check_database;
use crate::state::AppState;
use crate::state::broker_health;

/// State of the service.
#[derive(Debug, Serialize, ToSchema)]
pub struct Status {
    /// Version of the frontend program.
    pub version: String,
    /// Whether PostgreSQL answers and its schema is up to date.
    pub database: PartStatus,
    /// Whether RabbitMQ answers; while it does not, nothing is released to builders.
    pub broker: PartStatus,
    /// Whether the result store has space, as uploads through this frontend found it.
    pub results: PartStatus,
    /// Tasks that have not ended; null while the database is away, as are all counts below.
    pub tasks: Option<TaskCounts>,
    /// Job messages that are written and not yet confirmed by RabbitMQ.
    pub outbox: Option<u64>,
    /// Parked messages; `GET /api/v1/parked` shows them.
    pub parked: Option<u64>,
    /// Live builders: those last heard from less than 25 seconds ago.
    pub builders_live: Option<u64>,
    /// Live builders that an administrator drained.
    pub builders_drained: Option<u64>,
    /// Live builders that were set aside because of repeated faults.
    pub builders_set_aside: Option<u64>,
    /// Live builders that take no work because their spool disks are short of space.
    pub builders_short_of_disk: Option<u64>,
    /// Live builders whose engines lack images that job messages asked for.
    pub builders_lacking_images: Option<u64>,
    /// Images of chroots that are being baked, counted once for each engine.
    pub bakes_running: Option<u64>,
    /// Images of chroots whose last bake failed, counted once for each engine; `GET /api/v1/chroots` shows why.
    pub bakes_failing: Option<u64>,
}

/// State of a part of the service.
#[derive(Debug, Serialize, ToSchema)]
pub struct PartStatus {
    /// Whether the part works.
    pub up: bool,
    /// Why the part does not work; null when it does.
    pub reason: Option<String>,
    /// When it stopped working; null when it works, or where that is not known.
    pub since: Option<DateTime<Utc>>,
}

/// Tasks that have not ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskCounts {
    /// Tasks accepted and not yet released, or whose release RabbitMQ has not confirmed.
    pub waiting: u64,
    /// Tasks released to RabbitMQ and not yet claimed.
    pub queued: u64,
    /// Tasks that builders have claimed.
    pub running: u64,
}

/// Show the state of the service
#[utoipa::path(
    get,
    path = "/api/v1/status",
    tag = "service",
    responses((status = 200, description = "Always, while the frontend runs", body = Status))
)]
pub async fn status(State(state): State<AppState>) -> Json<Status> {
    let database = check_database(&state).await;
    let counts = if database.ok {
        state.store.counts().await.ok()
    } else {
        None
    };
    let counts = counts.as_ref();
    Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        database: PartStatus {
            up: database.ok,
            reason: database.reason,
            since: state.database_outage.note(database.ok),
        },
        broker: broker(&state),
        results: results(&state),
        tasks: counts.map(|counts| TaskCounts {
            waiting: counts.waiting,
            queued: counts.queued,
            running: counts.running,
        }),
        outbox: counts.map(|counts| counts.outbox),
        parked: counts.map(|counts| counts.parked),
        builders_live: counts.map(|counts| counts.builders_live),
        builders_drained: counts.map(|counts| counts.builders_drained),
        builders_set_aside: counts.map(|counts| counts.builders_set_aside),
        builders_short_of_disk: counts.map(|counts| counts.builders_short_of_disk),
        builders_lacking_images: counts.map(|counts| counts.builders_lacking_images),
        bakes_running: counts.map(|counts| counts.bakes_running),
        bakes_failing: counts.map(|counts| counts.bakes_failing),
    })
}

fn results(state: &AppState) -> PartStatus {
    let since = state.results_full.since();
    let reason = "result store full: uploads wait; builds whose packages are ready keep them on their builders";
    PartStatus {
        up: since.is_none(),
        reason: since.map(|_| reason.to_owned()),
        since,
    }
}

fn broker(state: &AppState) -> PartStatus {
    let problem = broker_health::broker_problem(state);
    PartStatus {
        up: problem.is_none(),
        since: problem.as_ref().map(|problem| problem.since),
        reason: problem.map(|problem| problem.reason),
    }
}
