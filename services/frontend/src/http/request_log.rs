//! Gives each request an id and a span, and records its duration and status in log and metrics. Only the matched path
//! is logged, so that neither query nor token gets into the log. A panic in a handler becomes an answer with status
//! 500, not a dropped connection.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use metrics::{counter, histogram};
use tracing::Instrument;

use crate::error::ApiError;
use crate::request_id;

/// Header of the answer with the request's id.
const HEADER: &str = "x-request-id";

/// Middleware around all routes.
pub async fn observe(request: Request, next: Next) -> Response {
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().clone();
    let id = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
    // A span of the highest level, so that its fields are on warnings too where the filter hides all else.
    let span = tracing::error_span!("request", request.id = %id, %method, path);
    let begun = Instant::now();
    let mut response = request_id::scope(id.clone(), answer(request, next))
        .instrument(span.clone())
        .await;
    let taken = begun.elapsed();
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HEADER, value);
    }
    let status = response.status();
    span.in_scope(|| {
        tracing::debug!(
            status = status.as_u16(),
            duration_ms = taken.as_secs_f64() * 1000.0,
            "answered"
        );
    });
    // A client may send any word as its method, and each would make a metric of its own.
    let method = if path == "unmatched" || status == StatusCode::METHOD_NOT_ALLOWED {
        "other"
    } else {
        method.as_str()
    };
    let labels = [
        ("method", method.to_owned()),
        ("path", path),
        ("status", status.as_str().to_owned()),
    ];
    counter!("millrace_http_requests_total", &labels).increment(1);
    histogram!("millrace_http_request_seconds", &labels[..2]).record(taken.as_secs_f64());
    response
}

async fn answer(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        // The panic hook has logged the rest.
        Err(_) => ApiError::internal("a handler panicked").into_response(),
    }
}
