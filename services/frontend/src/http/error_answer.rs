//! The one table from errors to HTTP answers. What a caller can act on is answered as problem JSON; the cause of an
//! internal error goes to the log alone, under the request's id.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use millrace_chassis::Problem;
use millrace_wire::ClaimRefusal;
use serde::Serialize;

use crate::error::{ApiError, FieldError};
use crate::request_id;

/// `Retry-After` while the frontend is starting or its database is away, in seconds.
pub const RETRY_AFTER: &str = "2";
/// `Retry-After` while the result store is full, in seconds: space must be made first.
const RETRY_AFTER_FULL: &str = "15";

/// The answer: a problem with further members for programs.
#[derive(Debug, Serialize)]
struct Body {
    #[serde(flatten)]
    problem: Problem,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<ClaimRefusal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

/// What some answers have beside the problem: members of the body, and a header.
#[derive(Default)]
struct Extras {
    reason: Option<ClaimRefusal>,
    size: Option<u64>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Extras {
    fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.header = HeaderValue::from_str(value).ok().map(|value| (name, value));
        self
    }
}

impl ApiError {
    fn problem(&self) -> Problem {
        match self {
            Self::Malformed { detail } => {
                problem(400, "malformed-request", "The request cannot be read").detail(detail)
            }
            Self::Field(error) => field_problem(error),
            Self::Unauthenticated { expected } => {
                problem(401, "unauthenticated", "The token is missing or wrong")
                    .field("authorization")
                    .accepted(format!("Authorization: Bearer <{expected}>"))
            }
            Self::Unknown { what, name } => {
                problem(404, "unknown", format!("There is no such {what}"))
                    .field(*what)
                    .detail(format!("there is no {what} {name}"))
            }
            Self::NoSuchPath => problem(404, "no-such-path", "There is no such address")
                .detail("the API is described at /api/v1/openapi.json"),
            Self::WrongMethod => problem(405, "wrong-method", "The address knows other methods"),
            Self::Conflict { detail } => {
                problem(409, "conflict", "The present state forbids it").detail(detail)
            }
            Self::KeyReused => key_reused(),
            Self::ClaimRefused(refusal) => problem(
                claim_status(*refusal),
                "claim-refused",
                "The claim was refused",
            ),
            Self::LogMismatch { size } => problem(
                409,
                "log-mismatch",
                "The chunk does not follow the stored log",
            )
            .field("offset")
            .accepted(size.to_string()),
            Self::LeaseGone => problem(410, "lease-gone", "The attempt is not the caller's"),
            Self::LogRemoved { detail } => {
                problem(410, "log-removed", "The log is not kept any more").detail(detail)
            }
            Self::LengthRequired => problem(411, "length-required", "The size must be announced")
                .field("content-length"),
            Self::TooLarge { cap } => problem(413, "too-large", "The body is too large")
                .field("body")
                .accepted(format!("at most {cap} bytes")),
            Self::BodyBroken { detail } => {
                problem(400, "body-broken", "The body did not arrive whole")
                    .field("body")
                    .detail(detail)
            }
            Self::WrongType { accepted } => {
                problem(415, "wrong-type", "The body is of another type")
                    .field("content-type")
                    .accepted(*accepted)
            }
            Self::Range { size } => problem(416, "range", "The range lies outside the file")
                .field("range")
                .accepted(format!("within {size} bytes")),
            Self::Unavailable { .. } => problem(503, "unavailable", "Not available at the moment")
                .detail("the database is away or the frontend is starting; ask again soon"),
            Self::StorageFull => problem(507, "storage-full", "The result store has no room").detail(
                "the result store is full: nothing was stored; free space or enlarge it, and send it again",
            ),
            Self::Internal { .. } => problem(500, "internal", "A fault of the server"),
        }
    }

    /// What the answer has beside the problem.
    fn extras(&self) -> Extras {
        let none = Extras::default();
        match self {
            Self::ClaimRefused(refusal) => Extras {
                reason: Some(*refusal),
                ..none
            },
            Self::LogMismatch { size } => Extras {
                size: Some(*size),
                ..none
            },
            Self::Unavailable { .. } => none.header(header::RETRY_AFTER, RETRY_AFTER),
            Self::StorageFull => none.header(header::RETRY_AFTER, RETRY_AFTER_FULL),
            Self::Unauthenticated { .. } => none.header(header::WWW_AUTHENTICATE, "Bearer"),
            Self::Range { size } => none.header(header::CONTENT_RANGE, &format!("bytes */{size}")),
            Self::Malformed { .. }
            | Self::Field(_)
            | Self::Unknown { .. }
            | Self::NoSuchPath
            | Self::WrongMethod
            | Self::Conflict { .. }
            | Self::KeyReused
            | Self::LeaseGone
            | Self::LogRemoved { .. }
            | Self::LengthRequired
            | Self::TooLarge { .. }
            | Self::BodyBroken { .. }
            | Self::WrongType { .. }
            | Self::Internal { .. } => none,
        }
    }

    fn log(&self) {
        match self {
            Self::Internal { reason } => tracing::error!("request failed: {reason}"),
            Self::Unavailable { reason } => tracing::warn!("request not served: {reason}"),
            Self::StorageFull => tracing::error!("upload refused: the result store is full"),
            // Everything else is the caller's matter, and is in the answer.
            Self::Malformed { .. }
            | Self::Field(_)
            | Self::Unauthenticated { .. }
            | Self::Unknown { .. }
            | Self::NoSuchPath
            | Self::WrongMethod
            | Self::Conflict { .. }
            | Self::KeyReused
            | Self::ClaimRefused(_)
            | Self::LogMismatch { .. }
            | Self::LeaseGone
            | Self::LogRemoved { .. }
            | Self::LengthRequired
            | Self::TooLarge { .. }
            | Self::BodyBroken { .. }
            | Self::WrongType { .. }
            | Self::Range { .. } => {}
        }
    }
}

fn problem(status: u16, word: &str, title: impl Into<String>) -> Problem {
    Problem::new(status, format!("urn:millrace:{word}"), title)
}

fn field_problem(error: &FieldError) -> Problem {
    let problem = problem(422, "invalid-field", "A field cannot be accepted")
        .field(&error.field)
        .detail(&error.reason);
    match &error.accepted {
        Some(accepted) => problem.accepted(accepted),
        None => problem,
    }
}

fn key_reused() -> Problem {
    problem(422, "key-reused", "The idempotency key was used before")
        .field("Idempotency-Key")
        .detail("the key belongs to another request that is still remembered")
        .accepted("a new key for a new request, the same body for a repeated one")
}

fn claim_status(refusal: ClaimRefusal) -> u16 {
    match refusal {
        ClaimRefusal::Taken | ClaimRefusal::Avoid | ClaimRefusal::NoRoom => 409,
        ClaimRefusal::Revoked => 410,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let mut problem = self.problem();
        let status =
            StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            problem.id = request_id::current();
        }
        let Extras {
            reason,
            size,
            header,
        } = self.extras();
        let body = Body {
            problem,
            reason,
            size,
        };
        let mut response = (status, serde_json::to_vec(&body).unwrap_or_default()).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(Problem::CONTENT_TYPE),
        );
        if let Some((name, value)) = header {
            headers.insert(name, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_text_stays_inside() {
        let error = ApiError::internal("password=hush");
        assert!(!format!("{:?}", error.problem()).contains("hush"));
    }

    #[test]
    fn a_refused_claim_reads_as_problem_and_as_refusal() {
        let body = Body {
            problem: ApiError::ClaimRefused(ClaimRefusal::NoRoom).problem(),
            reason: Some(ClaimRefusal::NoRoom),
            size: None,
        };
        let text = serde_json::to_string(&body).unwrap();
        let refused: millrace_wire::ClaimRefused = serde_json::from_str(&text).unwrap();
        assert_eq!(refused.reason, ClaimRefusal::NoRoom);
        assert_eq!(serde_json::from_str::<Problem>(&text).unwrap().status, 409);
    }
}
