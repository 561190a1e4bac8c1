//! A client of several frontends: asks them in turn, with a deadline, and tells a clear answer from none.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::{Client, Method, Response};
use serde_json::Value;

use super::environment::TOKEN;
use crate::http_client;

const DEADLINE: Duration = Duration::from_secs(15);

/// What came back.
#[derive(Debug)]
pub enum Answer {
    /// 2xx with this body.
    Good(Value),
    /// 4xx: the request is at fault.
    Refused(u16, Value),
    /// 5xx, no answer, or half of one: what became of it is not known.
    Unclear(String),
}

/// The client.
#[derive(Debug)]
pub struct Frontends {
    client: Client,
    addresses: Vec<String>,
    next: AtomicUsize,
}

/// A body to send.
#[derive(Debug, Clone)]
pub enum Payload {
    /// Nothing.
    None,
    /// JSON.
    Json(Value),
    /// A file.
    Bytes(Vec<u8>),
}

impl Frontends {
    /// A client of frontends at these addresses.
    pub fn new(addresses: Vec<String>) -> Self {
        Self {
            client: http_client(),
            addresses,
            next: AtomicUsize::new(0),
        }
    }

    /// Asks the next frontend once.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Payload,
        key: Option<&str>,
    ) -> Answer {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let url = format!("{}{path}", self.addresses[turn % self.addresses.len()]);
        let mut request = self
            .client
            .request(method, url)
            .bearer_auth(TOKEN)
            .timeout(DEADLINE);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let request = match body {
            Payload::None => request,
            Payload::Json(body) => request.json(&body),
            Payload::Bytes(body) => request.body(body),
        };
        match request.send().await {
            Ok(response) => read(response).await,
            Err(error) => Answer::Unclear(error.to_string()),
        }
    }

    /// Reads a document; none when no clear answer came.
    pub async fn get(&self, path: &str) -> Option<Value> {
        match self.ask(Method::GET, path, Payload::None, None).await {
            Answer::Good(value) => Some(value),
            Answer::Refused(..) | Answer::Unclear(_) => None,
        }
    }
}

async fn read(response: Response) -> Answer {
    let status = response.status();
    match response.json::<Value>().await {
        Ok(value) if status.is_success() => Answer::Good(value),
        Ok(value) if status.is_client_error() => Answer::Refused(status.as_u16(), value),
        Ok(value) => Answer::Unclear(format!("{status}: {value}")),
        Err(error) => Answer::Unclear(format!("{status}: {error}")),
    }
}
