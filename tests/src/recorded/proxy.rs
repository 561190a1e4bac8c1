//! Stands between a builder and its frontend, and writes down what they say.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{Body, Exchange};
use crate::http_client;

const LARGEST: usize = 64 << 20;

/// A running proxy.
pub struct Proxy {
    /// Its address.
    pub url: String,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Wires {
    target: String,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
}

impl Proxy {
    /// Starts one in front of a frontend.
    pub async fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let exchanges = Arc::new(Mutex::new(Vec::new()));
        let wires = Wires {
            target: target.to_owned(),
            exchanges: Arc::clone(&exchanges),
        };
        let router = Router::new().fallback(pass).with_state(wires);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url,
            exchanges,
            task,
        }
    }

    /// What was said so far.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.exchanges.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(State(wires): State<Wires>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.to_string();
    let sent = to_bytes(body, LARGEST).await.unwrap();
    let text = |name: &str| {
        let value = parts.headers.get(name)?;
        Some(value.to_str().unwrap().to_owned())
    };
    let mut headers = parts.headers.clone();
    for name in ["host", "content-length", "transfer-encoding", "connection"] {
        headers.remove(name);
    }
    let forwarded = http_client()
        .request(parts.method.clone(), format!("{}{path}", wires.target))
        .headers(headers)
        .body(sent.clone())
        .send()
        .await;
    let Ok(answer) = forwarded else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let (status, headers) = (answer.status(), answer.headers().clone());
    let got = answer.bytes().await.unwrap();
    let exchange = Exchange {
        method: parts.method.to_string(),
        lease: text("millrace-lease"),
        sha256: text("millrace-sha256"),
        body: kept(&parts.headers, &sent),
        status: status.as_u16(),
        answer: kept(&headers, &got),
        path,
    };
    wires.exchanges.lock().unwrap().push(exchange);
    let content_type = headers.get("content-type").cloned();
    let typed: HeaderMap = content_type
        .map(|value| ("content-type".parse().unwrap(), value))
        .into_iter()
        .collect();
    (status, typed, got).into_response()
}

fn kept(headers: &HeaderMap, bytes: &Bytes) -> Body {
    let is_json = headers
        .get("content-type")
        .is_some_and(|it| it.to_str().unwrap_or_default().contains("json"));
    match serde_json::from_slice(bytes) {
        Ok(json) if is_json => Body::Json(json),
        _ => Body::Bytes(bytes.len()),
    }
}
