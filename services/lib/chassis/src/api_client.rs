//! A client of our own HTTP interfaces, for the CLI and for builders.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::http;
use crate::problem::Problem;

/// The largest answer that is read as JSON, in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// Longest waits of the client.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Longest time for opening a connection.
    pub connect: Duration,
    /// Longest wait for the beginning of an answer, and for its next bytes.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            idle: Duration::from_mins(1),
        }
    }
}

/// Why a request to our own server failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The server's address is unusable.
    #[error("'{text}' is no server address, expected such as http://localhost:8080: {reason}")]
    BadBase {
        /// The address as it was given.
        text: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// No connection, or it broke.
    #[error("cannot reach {server}: {reason}")]
    Unreachable {
        /// Host and port of the server.
        server: String,
        /// Innermost cause, in the HTTP library's words.
        reason: String,
    },
    /// The server did not answer in time.
    #[error("{server} did not answer in time")]
    TimedOut {
        /// Host and port of the server.
        server: String,
    },
    /// The server answered with an error and says why.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// The answer is not one of a Millrace server.
    #[error("unexpected answer from {server}: {reason}; is this a Millrace server?")]
    BadAnswer {
        /// Host and port that answered.
        server: String,
        /// What about the answer was not expected.
        reason: String,
    },
    /// The client could not be set up, or the request could not be made.
    #[error("cannot make the request: {0}")]
    Client(String),
}

impl ApiError {
    /// The HTTP status, where there was one.
    pub fn status(&self) -> Option<u16> {
        self.problem().map(|problem| problem.status)
    }

    /// The server's own problem document, where it answered with one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            Self::BadBase { .. }
            | Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::BadAnswer { .. }
            | Self::Client(_) => None,
        }
    }

    /// Whether the same request may succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::Problem(problem) => {
                problem.status >= 500 || matches!(problem.status, 408 | 425 | 429)
            }
            Self::BadBase { .. } | Self::BadAnswer { .. } | Self::Client(_) => false,
        }
    }

    /// Whether no answer came at all.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::BadBase { .. } | Self::Problem(_) | Self::BadAnswer { .. } | Self::Client(_) => {
                false
            }
        }
    }
}

/// A client of one server. Clones share connections.
#[derive(Debug, Clone)]
pub struct ApiClient {
    base: Url,
    token: Option<SecretString>,
    client: Client,
}

impl ApiClient {
    /// A client with the usual [`Timeouts`].
    pub fn new(base: &str, token: Option<SecretString>) -> Result<Self, ApiError> {
        Self::with_timeouts(base, token, Timeouts::default())
    }

    /// A client of the server at `base`, which may have a path of its own.
    pub fn with_timeouts(
        base: &str,
        token: Option<SecretString>,
        timeouts: Timeouts,
    ) -> Result<Self, ApiError> {
        let base = parse_base(base)?;
        if token.as_ref().is_some_and(|token| bearer(token).is_none()) {
            return Err(ApiError::Client(
                "the token holds characters that no HTTP header can carry".to_owned(),
            ));
        }
        let client = http::build(|| {
            http::client_builder()
                .connect_timeout(timeouts.connect)
                .read_timeout(timeouts.idle)
        })
        .map_err(ApiError::Client)?;
        Ok(Self {
            base,
            token,
            client,
        })
    }

    /// The same client with another token.
    #[must_use]
    pub fn with_token(&self, token: SecretString) -> Self {
        Self {
            token: Some(token),
            ..self.clone()
        }
    }

    /// Base address, under which all paths are requested.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// A request for a path such as `/api/v1/builds`, with the token, to be completed and given to
    /// [`ApiClient::send`]. Parts of the path that came from outside go through [`path_segment`].
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let separator = if path.starts_with('/') { "" } else { "/" };
        let address = format!(
            "{}{separator}{path}",
            self.base.as_str().trim_end_matches('/')
        );
        let request = self
            .client
            .request(method, address)
            .header(ACCEPT, "application/json");
        match self.token.as_ref().and_then(bearer) {
            Some(value) => request.header(AUTHORIZATION, value),
            None => request,
        }
    }

    /// Sends a request; any status but 2xx is an error.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, ApiError> {
        let response = request.send().await.map_err(|error| self.explain(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }

    /// Sends a request and reads the answer as JSON.
    pub async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ApiError> {
        let response = self.send(request).await?;
        let bytes = self.read(response).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.bad_answer(error.to_string()))
    }

    /// Sends a request and drops the answer's body.
    pub async fn empty(&self, request: RequestBuilder) -> Result<(), ApiError> {
        let response = self.send(request).await?;
        self.read(response).await.map(|_| ())
    }

    /// GET, with an answer in JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.json(self.request(Method::GET, path)).await
    }

    /// POST of JSON, with an answer in JSON.
    pub async fn post<B, T>(&self, path: &str, body: &B) -> Result<T, ApiError>
    where
        B: Serialize + ?Sized,
        T: DeserializeOwned,
    {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    /// PUT of JSON, with an answer in JSON.
    pub async fn put<B, T>(&self, path: &str, body: &B) -> Result<T, ApiError>
    where
        B: Serialize + ?Sized,
        T: DeserializeOwned,
    {
        self.json(self.request(Method::PUT, path).json(body)).await
    }

    /// DELETE, with an answer in JSON.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.json(self.request(Method::DELETE, path)).await
    }

    async fn refusal(&self, response: Response) -> ApiError {
        let status = response.status();
        let is_problem = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.starts_with(Problem::CONTENT_TYPE));
        if is_problem {
            return match self.read(response).await {
                Ok(bytes) => self.decode_problem(status, &bytes),
                Err(error) => error,
            };
        }
        if status.is_redirection() {
            return self.bad_answer(format!(
                "a redirect (status {status}); give the address it leads to"
            ));
        }
        // A proxy in front of the server answers without a problem document.
        ApiError::Problem(Box::new(Problem::new(
            status.as_u16(),
            "about:blank",
            format!("{} answered with status {status}", self.server()),
        )))
    }

    fn decode_problem(&self, status: StatusCode, bytes: &[u8]) -> ApiError {
        match serde_json::from_slice::<Problem>(bytes) {
            Ok(problem) => ApiError::Problem(Box::new(Problem {
                status: status.as_u16(),
                ..problem
            })),
            Err(error) => self.bad_answer(error.to_string()),
        }
    }

    async fn read(&self, response: Response) -> Result<Vec<u8>, ApiError> {
        let mut bytes = Vec::new();
        let mut body = response.bytes_stream();
        while let Some(part) = body.next().await {
            let part = part.map_err(|error| self.explain(&error))?;
            if bytes.len() + part.len() > MAX_ANSWER {
                return Err(self.bad_answer(format!("it is larger than {MAX_ANSWER} bytes")));
            }
            bytes.extend_from_slice(&part);
        }
        Ok(bytes)
    }

    fn explain(&self, error: &reqwest::Error) -> ApiError {
        let server = self.server();
        if error.is_builder() {
            ApiError::Client(http::deepest(error))
        } else if error.is_timeout() {
            ApiError::TimedOut { server }
        } else {
            let reason = http::deepest(error);
            ApiError::Unreachable { server, reason }
        }
    }

    fn bad_answer(&self, reason: String) -> ApiError {
        ApiError::BadAnswer {
            server: self.server(),
            reason,
        }
    }

    fn server(&self) -> String {
        http::host_and_port(&self.base)
    }
}

fn parse_base(text: &str) -> Result<Url, ApiError> {
    let bad = |reason: &str| ApiError::BadBase {
        text: text.to_owned(),
        reason: reason.to_owned(),
    };
    let url = Url::parse(text.trim()).map_err(|error| bad(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(bad(
            "it must start with http:// or https:// and name a host",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad("it must have no query and no fragment"));
    }
    Ok(url)
}

fn bearer(token: &SecretString) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Text as one segment of a path: everything but letters, digits and `-._~` is percent-encoded.
pub fn path_segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&hex::encode_upper([byte]));
        }
    }
    // A lone dot or two would be a step in the tree, even percent-encoded; encoded twice it is just not found.
    match encoded.as_str() {
        "." => "%252E".to_owned(),
        ".." => "%252E%252E".to_owned(),
        _ => encoded,
    }
}
