//! The gate in front of everything that needs the database's schema: until the start has succeeded, requests get
//! 503 with a reason instead of an error from a table that is not there yet.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::error::ApiError;
use crate::state::{AppState, Readiness};

/// [`ApiError::Unavailable`] until the start has succeeded.
pub fn require_ready(state: &AppState) -> Result<(), ApiError> {
    match &*state.ready.borrow() {
        Readiness::Ready => Ok(()),
        Readiness::Starting(reason) => Err(ApiError::Unavailable {
            reason: format!("still starting: {reason}"),
        }),
    }
}

/// Middleware: answers for the handler while the frontend is starting.
pub async fn when_ready(State(state): State<AppState>, request: Request, next: Next) -> Response {
    match require_ready(&state) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}
