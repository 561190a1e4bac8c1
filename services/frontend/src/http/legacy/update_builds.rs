//! `POST` and `PUT /update_builds/` and its other spellings: accepts reports of pollers. HTTP basic with any user name;
//! the password identifies the poller, and below a poller's own address it must be that poller's.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use metrics::counter;
use millrace_chassis::crash_point;
use millrace_domain::{Fence, Token};
use millrace_store::{PollerCaller, PollerReport, Reported};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::http::extract::read_body;
use crate::http::legacy::basic_auth::credentials;
use crate::http::legacy::report::parse_report;
use crate::http::legacy::waiting_builds::may_poll;
use crate::state::AppState;

/// The answer of 2012 to a missing or wrong password.
const WRONG_PASSWORD: &str = "You have to provide the correct password";
/// Reports up to this size, in bytes, are stored to be shown by the lens.
const MAX_SHOWN: usize = 16 * 1024;

/// Accepts a report at the common address; the password alone identifies the poller.
pub async fn update_builds(
    State(state): State<AppState>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    accept_report(&state, peer, None, request).await
}

/// Accepts a report at a poller's own address.
pub async fn poller_update(
    State(state): State<AppState>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(token): Path<String>,
    request: Request,
) -> Response {
    accept_report(&state, peer, Some(Token::new(token)), request).await
}

/// Checks who reports before the body is read, and answers in the ways that pollers know.
async fn accept_report(
    state: &AppState,
    peer: SocketAddr,
    token: Option<Token>,
    request: Request,
) -> Response {
    if !may_poll(state, peer.ip()) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let poller = match authenticate(state, peer, token, request.headers()).await {
        Ok(poller) => poller,
        Err(refusal) => return refusal,
    };
    let body = match read_body(request, state.settings.config.caps.max_json_bytes).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let entries = match parse_report(&body) {
        Ok(entries) => entries,
        Err(reason) => return json_answer(StatusCode::BAD_REQUEST, &json!({ "error": reason })),
    };
    match apply(state, &poller, &entries, &body).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

/// Identifies the poller, or gives the refusal to answer with. Addresses with too many wrong passwords have to wait.
async fn authenticate(
    state: &AppState,
    peer: SocketAddr,
    token: Option<Token>,
    headers: &HeaderMap,
) -> Result<PollerCaller, Response> {
    if state.login_throttle.is_blocked(peer.ip()) {
        let wait = [(header::RETRY_AFTER, "60")];
        return Err((StatusCode::TOO_MANY_REQUESTS, wait, WRONG_PASSWORD).into_response());
    }
    let given = credentials(headers);
    let found = match &given {
        Some(given) => find_poller(state, token, &given.secret).await,
        None => Ok(None),
    };
    match found {
        Ok(Some(poller)) => {
            let user = given.map(|given| given.user).unwrap_or_default();
            let user: String = user.chars().filter(|c| !c.is_control()).take(64).collect();
            tracing::debug!(poller = %poller.name, user, "poller report received");
            Ok(poller)
        }
        Ok(None) => {
            state.login_throttle.record_failure(peer.ip());
            tracing::warn!(%peer, "poller report refused: wrong or missing password");
            Err((StatusCode::UNAUTHORIZED, WRONG_PASSWORD).into_response())
        }
        Err(error) => Err(error.into_response()),
    }
}

/// Finds the poller by its address where there is one, otherwise by its password. Secrets are looked up by digest, and
/// compared as digests in constant time.
async fn find_poller(
    state: &AppState,
    token: Option<Token>,
    secret: &Token,
) -> Result<Option<PollerCaller>, ApiError> {
    let found = match token {
        Some(token) => state.store.poller_by_token(&token.hash()).await?,
        None => state.store.poller_by_secret(&secret.hash()).await?,
    };
    Ok(found.filter(|poller| secret.hash().matches(&poller.secret_hash)))
}

/// Stores what the report says, and wakes the loops that go on with it.
async fn apply(
    state: &AppState,
    poller: &PollerCaller,
    entries: &[PollerReport],
    body: &[u8],
) -> Result<Response, ApiError> {
    if entries.is_empty() {
        let warning = json!({ "warning": "No parsed builds" });
        return Ok(json_answer(StatusCode::OK, &warning));
    }
    let legacy = &state.settings.config.legacy;
    let trusts_success = state.settings.results_check.is_none();
    let margin = legacy.legacy_margin_seconds;
    crash_point("update.unstored");
    let reported = state
        .store
        .accept_poller_report(poller.id, entries, margin, trusts_success)
        .await?;
    crash_point("update.stored");
    if reported.to_verify {
        state.result_checker_wake.notify_one();
    }
    if !reported.ended.is_empty() {
        state.relay_wake.notify_one();
    }
    state
        .store
        .note_report(poller.id, &displayable(body))
        .await?;
    count_and_log(poller, &reported);
    let answer = json!({
        "updated_builds_ids": reported.updated,
        "non_existing_builds_ids": reported.unknown,
        "ignored_builds_ids": reported.ignored,
    });
    let status = if reported.fenced && poller.fence == Fence::Reject {
        StatusCode::CONFLICT
    } else {
        StatusCode::OK
    };
    Ok(json_answer(status, &answer))
}

fn count_and_log(poller: &PollerCaller, reported: &Reported) {
    for (result, ids) in [
        ("updated", &reported.updated),
        ("unknown", &reported.unknown),
        ("ignored", &reported.ignored),
    ] {
        let labels = [
            ("poller", poller.name.to_string()),
            ("result", result.to_owned()),
        ];
        counter!("millrace_poller_reports_total", &labels).increment(ids.len() as u64);
    }
    if !reported.ignored.is_empty() {
        tracing::warn!(poller = %poller.name, builds = ?reported.ignored, "poller reported builds that have ended or are not its own");
    }
}

/// The report as the lens shows it, or a sentence in place of one that is too large or no JSON.
fn displayable(body: &[u8]) -> Value {
    let value = serde_json::from_slice(body).ok();
    match value.filter(|_| body.len() <= MAX_SHOWN) {
        Some(value) => without_nul(value),
        None => json!(format!("a report of {} bytes", body.len())),
    }
}

/// Replaces a report with a NUL in a text, which PostgreSQL cannot store.
fn without_nul(value: Value) -> Value {
    let text = value.to_string();
    if text.contains("\\u0000") {
        return json!(format!("a report of {} bytes with a NUL in it", text.len()));
    }
    value
}

fn json_answer(status: StatusCode, body: &Value) -> Response {
    let mut text = serde_json::to_vec_pretty(body).unwrap_or_default();
    text.push(b'\n');
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}
