//! `GET /api/v1/parked`: parked messages (dead letters), with the reason for each.

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

/// Query of the list: which page.
#[derive(Debug, Deserialize)]
pub struct Query {
    before: Option<i64>,
    limit: Option<i64>,
}

/// A parked message: one that could not be decoded, or was redelivered too often.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "times end in _at")]
pub struct Parked {
    /// Number in the list, ascending with time.
    pub id: i64,
    /// Name of the queue that it was taken from.
    pub queue: String,
    /// Why it was parked.
    pub reason: String,
    /// Body of the message, with secrets removed and cut to a bounded length.
    pub body: String,
    /// When it was parked.
    pub parked_at: DateTime<Utc>,
}

/// List parked messages, newest first
#[utoipa::path(
    get,
    path = "/api/v1/parked",
    tag = "service",
    params(
        ("before" = Option<i64>, Query, description = "Only entries older than this one; give `next` of the previous page"),
        ("limit" = Option<i64>, Query, description = "Entries of the page at most: 1 to 100, 20 when absent"),
    ),
    responses(
        (status = 200, description = "A page, newest first", body = Page<Parked>),
        (status = "default", description = "A parameter cannot be accepted", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list_parked(
    State(state): State<AppState>,
    ApiQuery(query): ApiQuery<Query>,
) -> Result<Json<Page<Parked>>, ApiError> {
    let limit = page_limit(query.limit)?;
    let mut parked = state.store.list_parked(query.before, limit + 1).await?;
    let has_more = parked.len() > limit as usize;
    parked.truncate(limit as usize);
    let next = parked.last().filter(|_| has_more).map(|message| message.id);
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
