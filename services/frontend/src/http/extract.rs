//! Extractors for bodies, queries and paths. Each way in which one can be wrong becomes a problem that names the field,
//! and no body is read beyond its cap or for longer than its time.

use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use millrace_chassis::crash_point;
use millrace_domain::{AttemptId, BuildId, BuilderId, TaskId};
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::error::{ApiError, FieldError};
use crate::state::AppState;

/// How long a whole JSON body or log chunk may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(30);
/// How long a streamed body may pause between two pieces.
const BODY_PAUSE: Duration = Duration::from_secs(30);
/// Entries of a page where the request names no limit.
const DEFAULT_PAGE: u32 = 20;
/// Entries of a page at most.
const MAX_PAGE: u32 = 100;
/// Bytes beyond the cap that are read and dropped: closing earlier would reset the connection and lose the answer.
const DRAIN_BYTES: usize = 8 << 20;

/// A JSON object as the body, of `MILLRACE_MAX_JSON_BYTES` at most.
pub struct ApiJson<T>(pub T);

/// As [`ApiJson`], but an empty body means the default.
pub struct OptionalJson<T>(pub T);

/// Query parameters as a struct; an unknown or wrong one is a problem that names it.
pub struct ApiQuery<T>(pub T);

impl<T: DeserializeOwned> FromRequest<AppState> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        require_json(request.headers())?;
        let body = read_body(request, state.settings.config.caps.max_json_bytes).await?;
        parse_json(&body).map(Self)
    }
}

impl<T: DeserializeOwned + Default> FromRequest<AppState> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let typed = require_json(request.headers());
        let body = read_body(request, state.settings.config.caps.max_json_bytes).await?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        typed?;
        parse_json(&body).map(Self)
    }
}

impl<T: DeserializeOwned> FromRequestParts<AppState> for ApiQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        let fields = serde_urlencoded::Deserializer::new(form_urlencoded(query));
        serde_path_to_error::deserialize(fields)
            .map(Self)
            .map_err(|error| {
                let path = error.path().to_string();
                field_error(&path, error.inner().to_string()).into()
            })
    }
}

fn form_urlencoded(query: &str) -> url::form_urlencoded::Parse<'_> {
    url::form_urlencoded::parse(query.as_bytes())
}

/// Reads a path segment as an id or a name; what cannot be one does not exist.
pub fn segment<T: FromStr>(what: &'static str, text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|_| ApiError::unknown(what, text))
}

/// The path's parameters as texts or tuples of texts; a path that is no text does not exist.
pub struct Segments<T>(pub T);

/// The one path parameter of a route, as an id.
pub struct IdPath<T>(pub T);

/// An id that can be a path parameter.
pub trait Id: FromStr {
    /// The kind of its resource, for the answer when there is none.
    const WHAT: &'static str;
}

impl Id for BuildId {
    const WHAT: &'static str = "build";
}

impl Id for TaskId {
    const WHAT: &'static str = "task";
}

impl Id for AttemptId {
    const WHAT: &'static str = "attempt";
}

impl Id for BuilderId {
    const WHAT: &'static str = "builder";
}

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for Segments<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(segments)| Self(segments))
            .map_err(|_| ApiError::NoSuchPath)
    }
}

impl<T: Id> FromRequestParts<AppState> for IdPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let Segments(text) = Segments::<String>::from_request_parts(parts, state).await?;
        segment(T::WHAT, &text).map(Self)
    }
}

/// The size of a page for the `limit` that was asked for, which must lie between 1 and [`MAX_PAGE`].
pub fn page_limit(asked: Option<i64>) -> Result<u32, FieldError> {
    match asked.map(u32::try_from) {
        None => Ok(DEFAULT_PAGE),
        Some(Ok(limit)) if (1..=MAX_PAGE).contains(&limit) => Ok(limit),
        Some(_) => {
            Err(FieldError::new("limit", "out of range").accepted(format!("1 to {MAX_PAGE}")))
        }
    }
}

/// A body as a stream that may not pause for long.
pub fn body_stream(body: Body) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
    stream::unfold(Some(body.into_data_stream()), |body| async {
        let mut body = body?;
        match tokio::time::timeout(BODY_PAUSE, body.next()).await {
            Ok(Some(Ok(bytes))) => {
                crash_point("body.received");
                Some((Ok(bytes), Some(body)))
            }
            Ok(Some(Err(error))) => Some((Err(std::io::Error::other(error)), None)),
            Ok(None) => None,
            Err(_) => Some((Err(std::io::ErrorKind::TimedOut.into()), None)),
        }
    })
}

/// The value of a header; none where it is missing or not visible ASCII.
pub fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The value of `Content-Length`; none where it is missing or no number.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    header_text(headers, &CONTENT_LENGTH).and_then(|text| text.parse().ok())
}

fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let is_json = header_text(headers, &CONTENT_TYPE)
        .and_then(|text| text.split(';').next())
        .is_some_and(|mime| mime.trim().eq_ignore_ascii_case("application/json"));
    is_json.then_some(()).ok_or(ApiError::WrongType {
        accepted: "application/json",
    })
}

/// Reads a whole body that must not exceed `cap` bytes.
pub async fn read_body(request: Request, cap: usize) -> Result<Bytes, ApiError> {
    let mut stream = request.into_body().into_data_stream();
    let reading = async {
        let mut body = BytesMut::new();
        let mut seen = 0usize;
        while let Some(frame) = stream.next().await {
            let frame = frame.map_err(|error| ApiError::BodyBroken {
                detail: error.to_string(),
            })?;
            seen = seen.saturating_add(frame.len());
            if seen <= cap {
                body.extend_from_slice(&frame);
            } else if seen > cap.saturating_add(DRAIN_BYTES) {
                break;
            }
        }
        if seen > cap {
            return Err(ApiError::TooLarge { cap: cap as u64 });
        }
        Ok(body.freeze())
    };
    tokio::time::timeout(BODY_DEADLINE, reading)
        .await
        .unwrap_or_else(|_| {
            Err(ApiError::BodyBroken {
                detail: format!("did not arrive within {} s", BODY_DEADLINE.as_secs()),
            })
        })
}

fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    // Derived readers would take an array for an object, its entries in order of declaration.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return match serde_json::from_slice::<IgnoredAny>(body) {
            Ok(_) => Err(FieldError::new("body", "is no JSON object").into()),
            Err(error) => Err(no_json(&error)),
        };
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        match inner.classify() {
            serde_json::error::Category::Data => {
                field_error(&path, without_position(&inner)).into()
            }
            _ => no_json(&inner),
        }
    })?;
    json.end().map_err(|error| no_json(&error))?;
    Ok(value)
}

fn no_json(error: &serde_json::Error) -> ApiError {
    ApiError::Malformed {
        detail: format!("the body is no JSON: {error}"),
    }
}

/// A reader's error at a path. Where a field is missing, the path so far is that of its parent.
fn field_error(path: &str, reason: String) -> FieldError {
    let parent = trim_path(path);
    let missing = reason
        .strip_prefix("missing field `")
        .and_then(|rest| rest.strip_suffix('`'));
    let field = match missing {
        Some(name) if parent == "body" => name.to_owned(),
        Some(name) => format!("{parent}.{name}"),
        None => parent.to_owned(),
    };
    FieldError::new(field, reason)
}

/// The path of a field; the whole body where there is no path.
fn trim_path(path: &str) -> &str {
    match path {
        "" | "." | "?" => "body",
        other => other.trim_end_matches(".?"),
    }
}

/// An error's text without the line and column, which the field's path says better.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(cut) => text[..cut].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "only whether it reads counts")]
        list: Vec<u8>,
    }

    fn field(body: &str) -> String {
        match parse_json::<Sample>(body.as_bytes()) {
            Err(ApiError::Field(error)) => error.field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn wrong_data_names_its_field() {
        assert_eq!(field(r#"{"list":[1,"x"]}"#), "list[1]");
        assert_eq!(field(r#"{"list":[1,-5]}"#), "list[1]");
        assert_eq!(field(r#"{"liste":[]}"#), "liste");
        assert_eq!(field("{}"), "list");
        assert_eq!(field(" [[1]]"), "body");
        assert_eq!(field("7"), "body");
    }

    #[test]
    fn broken_json_is_malformed() {
        for body in ["", "{", "{\"list\":[]} x", "\u{0}", "{\"list\":[1,]}"] {
            assert!(
                matches!(
                    parse_json::<Sample>(body.as_bytes()),
                    Err(ApiError::Malformed { .. })
                ),
                "{body:?}"
            );
        }
    }
}
