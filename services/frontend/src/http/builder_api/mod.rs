//! `/builder/v1`: the API for builders. Bodies are the types of `millrace_wire`, so that builder and frontend cannot
//! disagree about them.

pub(crate) mod chroots;
pub(crate) mod claim;
pub(crate) mod enrol;
pub(crate) mod heartbeat;
pub(crate) mod read_file;
pub(crate) mod upload_file;
pub(crate) mod upload_log;

use axum::Router;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use axum::response::Response;
use axum::routing::{get, post, put};
use millrace_domain::{Token, TokenHash};
use millrace_results::{AttemptFile, Sha256};
use millrace_wire::LEASE_HEADER;
use serde::Deserialize;

use crate::error::{ApiError, FieldError};
use crate::http::auth::BuilderCaller;
use crate::http::downloads::serve_file::serve_file;
use crate::http::extract::{Segments, header_text, segment};
use crate::state::AppState;

/// Routes whose requests are answered within the usual deadline.
pub fn router() -> Router<AppState> {
    Router::new()
        .route("/builder/v1/enrol", post(enrol::enrol))
        .route("/builder/v1/claim", post(claim::claim))
        .route("/builder/v1/decline", post(claim::decline))
        .route("/builder/v1/heartbeat", post(heartbeat::heartbeat))
        .route("/builder/v1/chroots", post(chroots::chroots))
        .route(
            "/builder/v1/attempts/{attempt}/log",
            post(upload_log::upload_log),
        )
        .route("/builder/v1/sources/{sha256}", get(read_source))
}

/// Routes without a deadline: their requests last as long as their bodies.
pub fn uploads() -> Router<AppState> {
    Router::new().route(
        "/builder/v1/attempts/{attempt}/files/{position}/{name}",
        put(upload_file::upload_file).get(read_file::read_file),
    )
}

/// Digest of the lease token in the request's header; a request without one is refused.
pub struct Lease(pub TokenHash);

impl FromRequestParts<AppState> for Lease {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        let name = HeaderName::from_static(LEASE_HEADER);
        let text = header_text(&parts.headers, &name).ok_or_else(|| {
            FieldError::new(LEASE_HEADER, "is missing").accepted("the lease token of the claim")
        })?;
        Ok(Self(Token::new(text).hash()))
    }
}

/// Path of a result file below `/builder/v1/attempts`, as texts.
#[derive(Debug, Deserialize)]
pub struct FilePath {
    attempt: String,
    position: String,
    name: String,
}

impl FilePath {
    /// Reads the parts; the first that cannot be one is answered as unknown.
    fn parse(&self) -> Result<AttemptFile, ApiError> {
        Ok(AttemptFile {
            attempt: segment("attempt", &self.attempt)?,
            position: segment("package", &self.position)?,
            name: segment("file", &self.name)?,
        })
    }
}

/// `GET /builder/v1/sources/{sha256}`: serves an uploaded source package to the builder that builds it.
async fn read_source(
    _: BuilderCaller,
    State(state): State<AppState>,
    Segments(sha256): Segments<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let digest: Sha256 = segment("source", &sha256)?;
    let stored = state.results.source(&digest).await?;
    serve_file(&stored, "source.src.rpm", &headers).await
}
