//! `GET /waiting_builds/` and its other spellings, and the same below a poller's own address. Pollers of 2012
//! understand no error but an empty list, so every answer is a list.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use metrics::counter;
use millrace_chassis::crash_point;
use millrace_domain::{PollerMode, Token};
use millrace_store::{Fetch, LegacyBuild, PollerCaller};

use crate::error::ApiError;
use crate::http::error_answer::RETRY_AFTER;
use crate::http::legacy::list::{LegacyList, Shape};
use crate::http::legacy::query::{DEFAULT_LIMIT, ListQuery};
use crate::http::readiness::require_ready;
use crate::state::AppState;

/// Time for the database, so that an answer comes within 2 s even when the database gives none.
const DEADLINE: Duration = Duration::from_millis(1800);

/// Lists waiting builds at the common address, oldest first; claims nothing.
pub async fn waiting_builds(
    State(state): State<AppState>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = ListQuery::new(query.as_deref());
    answer(&state, peer, query.shape, async {
        require_ready(&state)?;
        let builds = waiting(&state, query.limit).await?;
        count_fetch("", builds.len(), 0);
        Ok(Some(LegacyList::new(&builds, &state.settings.links)))
    })
    .await
}

/// Reads the waiting builds. Requests with the usual limit share one query, however many arrive at the same time.
async fn waiting(state: &AppState, limit: u32) -> Result<Arc<Vec<LegacyBuild>>, ApiError> {
    if limit != DEFAULT_LIMIT {
        return Ok(Arc::new(state.store.waiting_builds(limit).await?));
    }
    let read = state.legacy_list.read(&state.store, limit).await;
    read.map_err(|reason| ApiError::Unavailable {
        reason: reason.to_string(),
    })
}

/// Lists builds at a poller's own address. For a poller that executes, a GET claims what it lists; HEAD and `peek` do
/// not.
pub async fn poller_builds(
    State(state): State<AppState>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(token): Path<String>,
    method: Method,
    RawQuery(query): RawQuery,
) -> Response {
    let query = ListQuery::new(query.as_deref());
    let is_peek = query.peek || method == Method::HEAD;
    answer(&state, peer, query.shape, async {
        require_ready(&state)?;
        let Some(poller) = state
            .store
            .poller_by_token(&Token::new(token).hash())
            .await?
        else {
            return Ok(None);
        };
        let list = if is_peek {
            peek(&state, &poller, query.limit).await?
        } else {
            fetch(&state, &poller, query.limit).await?
        };
        Ok(Some(list))
    })
    .await
}

/// The list that a poller would get now; claims nothing.
pub async fn peek(
    state: &AppState,
    poller: &PollerCaller,
    limit: u32,
) -> Result<LegacyList, ApiError> {
    let builds = match poller.mode {
        PollerMode::Observe => state.store.waiting_builds(limit).await?,
        PollerMode::Execute => state.store.peek_for_poller(poller.id, limit).await?,
    };
    Ok(LegacyList::new(&builds, &state.settings.links))
}

/// The list that a poller gets, recorded as fetched, with its builds claimed where the poller executes.
async fn fetch(
    state: &AppState,
    poller: &PollerCaller,
    limit: u32,
) -> Result<LegacyList, ApiError> {
    let fetch = Fetch {
        poller: poller.id,
        limit,
        silence_seconds: state.settings.config.legacy.legacy_silence_seconds,
    };
    let (builds, claimed) = match poller.mode {
        PollerMode::Observe => (state.store.waiting_builds(limit).await?, 0),
        PollerMode::Execute => claim(state, &fetch).await?,
    };
    let list = LegacyList::new(&builds, &state.settings.links);
    if poller.mode == PollerMode::Observe {
        state.store.note_observed(&fetch, &list.ids()).await?;
    }
    count_fetch(poller.name.as_str(), builds.len(), claimed);
    if claimed > 0 {
        tracing::info!(poller = %poller.name, builds = claimed, "poller claimed builds");
    }
    Ok(list)
}

/// The builds that a poller has claimed, and how many of them it claimed just now.
async fn claim(state: &AppState, fetch: &Fetch) -> Result<(Vec<LegacyBuild>, u64), ApiError> {
    crash_point("poll.unclaimed");
    let fetched = state.store.fetch_for_poller(fetch).await?;
    crash_point("poll.claimed");
    Ok(fetched)
}

fn count_fetch(poller: &str, listed: usize, claimed: u64) {
    let labels = [("poller", poller.to_owned())];
    counter!("millrace_poller_fetches_total", &labels).increment(1);
    counter!("millrace_poller_listed_total", &labels).increment(listed as u64);
    counter!("millrace_poller_claims_total", &labels).increment(claimed);
}

/// Whether a client at this address may use the polling API (`MILLRACE_LEGACY_ALLOW`; empty allows all).
pub fn may_poll(state: &AppState, from: IpAddr) -> bool {
    let allowed = &state.settings.config.legacy.legacy_allow;
    allowed.is_empty() || allowed.contains(from)
}

/// Answers with the list, or with an empty one and a status that says why: the body is always JSON.
async fn answer(
    state: &AppState,
    peer: SocketAddr,
    shape: Shape,
    list: impl Future<Output = Result<Option<LegacyList>, ApiError>>,
) -> Response {
    if !may_poll(state, peer.ip()) {
        return respond(StatusCode::FORBIDDEN, &LegacyList::default(), shape);
    }
    match tokio::time::timeout(DEADLINE, list).await {
        Ok(Ok(Some(list))) => respond(StatusCode::OK, &list, shape),
        Ok(Ok(None)) => respond(StatusCode::NOT_FOUND, &LegacyList::default(), shape),
        Ok(Err(error)) => {
            tracing::warn!("legacy list answered empty, the database is unavailable: {error:?}");
            respond(
                StatusCode::SERVICE_UNAVAILABLE,
                &LegacyList::default(),
                shape,
            )
        }
        Err(_) => {
            tracing::warn!("legacy list answered empty, the database did not answer in time");
            respond(
                StatusCode::SERVICE_UNAVAILABLE,
                &LegacyList::default(),
                shape,
            )
        }
    }
}

fn respond(status: StatusCode, list: &LegacyList, shape: Shape) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let mut response = (status, headers, list.to_json(shape)).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
    }
    response
}
