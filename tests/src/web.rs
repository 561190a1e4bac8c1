//! A small web server on loopback for URLs of sources: files, redirects, breaks.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Serves `/file/<name>` with the given bytes, `/truncated/<name>` with half of them,
/// `/to/<host>` as a redirect to `http://<host>/x.src.rpm`.
#[derive(Debug)]
pub struct SourceServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl SourceServer {
    /// Starts serving.
    pub async fn start(bytes: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/file/{name}", get(whole))
            .route("/truncated/{name}", get(half))
            .route("/to/{host}", get(redirect))
            .with_state(Arc::new(bytes));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, task }
    }

    /// The URL of a path on this server.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }
}

impl Drop for SourceServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn whole(State(bytes): State<Arc<Vec<u8>>>) -> Vec<u8> {
    bytes.to_vec()
}

async fn half(State(bytes): State<Arc<Vec<u8>>>) -> Vec<u8> {
    bytes[..bytes.len() / 2].to_vec()
}

async fn redirect(Path(host): Path<String>) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::LOCATION,
        HeaderValue::from_str(&format!("http://{host}/x.src.rpm")).unwrap(),
    );
    (StatusCode::FOUND, headers).into_response()
}
