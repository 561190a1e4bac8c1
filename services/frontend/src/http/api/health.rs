//! `/healthz`, `/readyz` and `/metrics`, for orchestrators and monitoring.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use metrics::gauge;
use millrace_chassis::{Check, METRICS_CONTENT_TYPE};
use serde::Serialize;

use crate::error::ApiError;
use crate::http::error_answer::RETRY_AFTER;
use crate::http::readiness::require_ready;
use crate::state::broker_health;
use crate::state::{AppState, Readiness};

/// How long the database may take to answer the check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    checks: Vec<Check>,
}

/// Liveness: the process runs and answers.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Readiness: the database answers and its schema is up to date. A broker that is unreachable is shown but does not
/// make the frontend unready, since builds are accepted without it.
pub async fn readyz(State(state): State<AppState>) -> Response {
    let database = check_database(&state).await;
    let ready = database.ok;
    let problem = broker_health::broker_problem(&state);
    let broker = Check {
        name: "broker",
        ok: problem.is_none(),
        reason: problem.map(|problem| problem.reason),
    };
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let checks = vec![database, broker];
    let mut response = (status, Json(Ready { ready, checks })).into_response();
    if !ready {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
    }
    response
}

/// Counters of this process, and gauges that are read from the database at each request.
pub async fn metrics(State(state): State<AppState>) -> Result<Response, ApiError> {
    let Some(metrics) = &state.metrics else {
        return Err(ApiError::NoSuchPath);
    };
    gauge!("millrace_broker_up").set(if broker_health::broker_problem(&state).is_none() {
        1.0
    } else {
        0.0
    });
    let has_room = state.results_full.since().is_none();
    gauge!("millrace_results_up").set(if has_room { 1.0 } else { 0.0 });
    let counts = match require_ready(&state) {
        Ok(()) => state.store.counts().await.ok(),
        Err(_) => None,
    };
    gauge!("millrace_database_up").set(if counts.is_some() { 1.0 } else { 0.0 });
    if let Some(counts) = counts {
        for (task_state, count) in [
            ("waiting", counts.waiting),
            ("queued", counts.queued),
            ("running", counts.running),
        ] {
            gauge!("millrace_tasks", "state" => task_state).set(as_gauge(count));
        }
        gauge!("millrace_outbox_messages").set(as_gauge(counts.outbox));
        gauge!("millrace_parked_messages").set(as_gauge(counts.parked));
        gauge!("millrace_builders_live").set(as_gauge(counts.builders_live));
        gauge!("millrace_builders_drained").set(as_gauge(counts.builders_drained));
        gauge!("millrace_builders_set_aside").set(as_gauge(counts.builders_set_aside));
        gauge!("millrace_builders_short_of_disk").set(as_gauge(counts.builders_short_of_disk));
        gauge!("millrace_builders_lacking_images").set(as_gauge(counts.builders_lacking_images));
    }
    let headers = [(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)];
    Ok((headers, metrics.render()).into_response())
}

/// Checks that the start has succeeded and the database answers now; status and readiness show the result.
pub async fn check_database(state: &AppState) -> Check {
    let starting = match &*state.ready.borrow() {
        Readiness::Ready => None,
        Readiness::Starting(reason) => Some(reason.clone()),
    };
    let reason = match starting {
        Some(reason) => Some(reason),
        None => match tokio::time::timeout(CHECK_TIMEOUT, state.store.ping()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => {
                tracing::warn!("database check failed: {error}");
                Some("the database does not answer".to_owned())
            }
            Err(_) => Some("the database does not answer in time".to_owned()),
        },
    };
    Check {
        name: "database",
        ok: reason.is_none(),
        reason,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn as_gauge(count: u64) -> f64 {
    count as f64
}
