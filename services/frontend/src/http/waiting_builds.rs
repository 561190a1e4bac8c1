//! `GET /waiting_builds/` and its three twins, as pollers of 2012 call them. They know no error but an empty list.

use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::error::{ApiError, RETRY_AFTER};
use crate::legacy::{LegacyList, limit_of};
use crate::state::AppState;

/// An answer comes within 2 s, also when the database does not.
const DEADLINE: Duration = Duration::from_millis(1800);

/// Lists what waits, oldest first.
pub async fn waiting_builds(State(state): State<AppState>, RawQuery(query): RawQuery) -> Response {
    let limit = limit_of(query.as_deref());
    let (status, list) = match tokio::time::timeout(DEADLINE, load(&state, limit)).await {
        Ok(Ok(list)) => (StatusCode::OK, list),
        Ok(Err(error)) => {
            tracing::warn!("the legacy list is empty for want of the database: {error:?}");
            (StatusCode::SERVICE_UNAVAILABLE, LegacyList::default())
        }
        Err(_) => {
            tracing::warn!("the legacy list is empty: the database did not answer in time");
            (StatusCode::SERVICE_UNAVAILABLE, LegacyList::default())
        }
    };
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let mut response = (status, headers, list.to_json()).into_response();
    if status != StatusCode::OK {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
    }
    response
}

async fn load(state: &AppState, limit: u32) -> Result<LegacyList, ApiError> {
    state.require_ready()?;
    let builds = state.store.waiting_builds(limit).await?;
    Ok(LegacyList::new(&builds, &state.settings.links))
}
