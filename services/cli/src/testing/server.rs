//! An HTTP server in the test's process, which answers as the test says and records what it was asked.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use futures_util::{StreamExt, stream};
use serde_json::Value;

/// One request.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Method and path with query, such as `GET /api/v1/builds?limit=20`.
    pub line: String,
    /// How many requests with this line came before.
    pub earlier: usize,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    /// A header as text; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

type Answer = Box<dyn Fn(&Seen) -> Response + Send + Sync>;

struct Shared {
    answer: Answer,
    seen: Mutex<Vec<Seen>>,
}

/// The server; it ends with the test's runtime.
pub struct Server {
    url: String,
    shared: Arc<Shared>,
}

impl Server {
    /// Listens on a free port; `answer` is called for each request in turn.
    pub async fn start(answer: impl Fn(&Seen) -> Response + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            seen: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(handle).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, shared }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The lines of all requests so far.
    pub fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }
}

async fn handle(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let line = format!("{method} {uri}");
    let request = {
        let mut seen = shared.seen.lock().unwrap();
        let earlier = seen.iter().filter(|s| s.line == line).count();
        let request = Seen {
            line,
            earlier,
            headers,
            body,
        };
        seen.push(request.clone());
        request
    };
    (shared.answer)(&request)
}

/// The address of a server that is not there.
pub async fn nobody() -> String {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", free.local_addr().unwrap())
}

pub fn json(value: &Value) -> Response {
    answer(200, "application/json", value.to_string())
}

/// A refusal or failure in the server's own form.
pub fn problem(status: u16, value: &Value) -> Response {
    answer(status, "application/problem+json", value.to_string())
}

pub fn answer(status: u16, content_type: &str, body: impl Into<Body>) -> Response {
    Response::builder()
        .status(status)
        .header("content-type", content_type)
        .body(body.into())
        .unwrap()
}

pub fn bytes(body: impl Into<Body>) -> Response {
    answer(200, "application/octet-stream", body)
}

/// Bytes, and then a connection that breaks before the end of the answer.
pub fn broken(bytes: &'static [u8]) -> Response {
    let sent = stream::iter([Ok(Bytes::from_static(bytes))]);
    let break_off = stream::once(async {
        // The server sends what it has when there is nothing more to send at once, and only then the connection breaks.
        tokio::task::yield_now().await;
        Err(std::io::Error::other("broken on purpose"))
    });
    let body = Body::from_stream(sent.chain(break_off));
    answer(200, "application/octet-stream", body)
}
