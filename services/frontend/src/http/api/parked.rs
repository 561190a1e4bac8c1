//! `GET /api/v1/parked`: messages that nobody understood, for people.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use millrace_chassis::Problem;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::http::api::model::page::Page;
use crate::http::extract::{ApiQuery, page_limit};
use crate::state::AppState;

/// What to list.
#[derive(Debug, Deserialize)]
pub struct Query {
    before: Option<i64>,
    limit: Option<i64>,
}

/// A message that was taken out of the flow.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "times end in _at")]
pub struct Parked {
    /// Its number.
    pub id: i64,
    /// The queue it was in.
    pub queue: String,
    /// Why it was taken out.
    pub reason: String,
    /// Its body, secrets removed and cut.
    pub body: String,
    /// When.
    pub parked_at: DateTime<Utc>,
}

/// List parked messages, newest first
#[utoipa::path(
    get,
    path = "/api/v1/parked",
    tag = "service",
    params(
        ("before" = Option<i64>, Query, description = "Only older ones: `next` of the page before"),
        ("limit" = Option<i64>, Query, description = "1 to 100, 20 when absent"),
    ),
    responses(
        (status = 200, description = "A page", body = Page<Parked>),
        (status = "default", description = "A parameter cannot be accepted", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list_parked(
    State(state): State<AppState>,
    ApiQuery(query): ApiQuery<Query>,
) -> Result<Json<Page<Parked>>, ApiError> {
    let limit = page_limit(query.limit)?;
    let mut parked = state.store.list_parked(query.before, limit + 1).await?;
    let more = parked.len() > limit as usize;
    parked.truncate(limit as usize);
    let next = parked.last().filter(|_| more).map(|message| message.id);
    let items = parked
        .into_iter()
        .map(|message| Parked {
            id: message.id,
            queue: message.queue,
            reason: message.reason,
            body: message.body,
            parked_at: message.parked_at,
        })
        .collect();
    Ok(Json(Page { items, next }))
}
