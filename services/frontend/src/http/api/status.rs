//! `GET /api/v1/status`: how the service is, in one look.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::api::health::check_database;
use crate::state::AppState;
use crate::state::broker_health;

/// How the service is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// PostgreSQL.
    pub database: PartStatus,
    /// RabbitMQ.
    pub broker: PartStatus,
    /// The result store, as uploads through this frontend have found it.
    pub results: PartStatus,
    /// Counts of the truth; null while the database is away.
    pub tasks: Option<TaskCounts>,
    /// Messages on their way to the broker.
    pub outbox: Option<u64>,
    /// Messages that nobody understood.
    pub parked: Option<u64>,
    /// Builders heard of lately.
    pub builders_live: Option<u64>,
    /// Those of them that an administrator drained.
    pub builders_drained: Option<u64>,
    /// Those of them that were set aside for repeated faults of their own.
    pub builders_set_aside: Option<u64>,
    /// Those of them that take no work because their spool disks are short of space.
    pub builders_short_of_disk: Option<u64>,
    /// Those of them whose engines lack images that were asked for.
    pub builders_lacking_images: Option<u64>,
    /// Images of chroots that builders are baking.
    pub bakes_running: Option<u64>,
    /// Images of chroots whose last bake failed; `GET /api/v1/chroots` says why.
    pub bakes_failing: Option<u64>,
}

/// How a part is.
#[derive(Debug, Serialize, ToSchema)]
pub struct PartStatus {
    /// Whether it works.
    pub up: bool,
    /// Why it does not.
    pub reason: Option<String>,
    /// Since when it does not, where that is known.
    pub since: Option<DateTime<Utc>>,
}

/// Tasks that have not ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskCounts {
    /// Accepted, not yet released.
    pub waiting: u64,
    /// Released to the broker.
    pub queued: u64,
    /// Held by a builder.
    pub running: u64,
}

/// Show how the service is
#[utoipa::path(
    get,
    path = "/api/v1/status",
    tag = "service",
    responses((status = 200, description = "Always, as long as the frontend runs", body = Status))
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
