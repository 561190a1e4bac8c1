//! Calls to the server's `/api/v1`. Answers are kept as JSON too, since `--json` prints what the server sent.

use std::path::Path;

use anyhow::Context;
use millrace_chassis::{ApiClient, ApiError, Body, Method, Response, path_segment};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use crate::error::UsageError;
use crate::retry::{Outage, Timing, repeat_write};

/// An object as the server sent it, and the part of it that this program reads.
#[derive(Debug)]
pub struct Answer<T> {
    pub json: Value,
    pub object: T,
}

/// One server, and how its outages are borne.
#[derive(Debug, Clone)]
pub struct Client {
    api: ApiClient,
    timing: Timing,
}

impl Client {
    /// A client that repeats calls by `timing`.
    pub const fn new(api: ApiClient, timing: Timing) -> Self {
        Self { api, timing }
    }

    /// When calls are repeated.
    pub const fn timing(&self) -> &Timing {
        &self.timing
    }

    /// Reads one object; an outage of the server is an error at once.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Answer<T>> {
        let json: Value = self.api.get(path).await?;
        self.decode(json)
    }

    /// Reads one object, and repeats that for as long as the server may be away; `remains` says in the error after
    /// that what becomes of the work on the server.
    pub async fn get_through_outage<T: DeserializeOwned>(
        &self,
        path: &str,
        remains: &str,
    ) -> anyhow::Result<Answer<T>> {
        let mut outage = Outage::new(self.timing.outage_limit, self.timing.read_pauses);
        loop {
            match self.get(path).await {
                Ok(answer) => return Ok(answer),
                Err(error) => outage.bear(error, remains).await?,
            }
        }
    }

    /// POST under an idempotency key, repeated while the server cannot be reached.
    pub async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> anyhow::Result<Answer<T>> {
        self.write(Method::POST, path, body).await
    }

    /// PATCH under an idempotency key, repeated while the server cannot be reached.
    pub async fn patch<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> anyhow::Result<Answer<T>> {
        self.write(Method::PATCH, path, body).await
    }

    async fn write<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &B,
    ) -> anyhow::Result<Answer<T>> {
        let key = Uuid::new_v4().to_string();
        let body = serde_json::to_vec(body)?;
        let json: Value = repeat_write(&self.timing, async || {
            let request = self
                .api
                .request(method.clone(), path)
                .header("content-type", "application/json")
                .header("idempotency-key", &key)
                .body(body.clone());
            Ok(self.api.json(request).await?)
        })
        .await?;
        self.decode(json)
    }

    /// POST that is sent once, for endpoints without idempotency keys.
    pub async fn post_once<B: Serialize>(&self, path: &str, body: &B) -> anyhow::Result<Value> {
        Ok(self.api.post(path, body).await?)
    }

    /// DELETE that is sent once.
    pub async fn delete_once(&self, path: &str) -> anyhow::Result<Value> {
        Ok(self.api.delete(path).await?)
    }

    /// Opens a stream of bytes, such as a log or a result file.
    pub async fn open(&self, path: &str) -> Result<Response, ApiError> {
        self.api.send(self.api.request(Method::GET, path)).await
    }

    /// Streams a file to the server's source store; the answer has its name there and its digest.
    pub async fn upload(&self, path: &Path) -> anyhow::Result<Value> {
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .ok_or_else(|| UsageError(format!("{} has no usable file name", path.display())))?;
        let target = format!("/api/v1/sources?name={}", path_segment(name));
        repeat_write(&self.timing, async || self.send_file(&target, path).await).await
    }

    async fn send_file(&self, target: &str, path: &Path) -> anyhow::Result<Value> {
        let file = tokio::fs::File::open(path)
            .await
            .map_err(|e| UsageError(format!("cannot open {}: {e}", path.display())))?;
        let meta = file
            .metadata()
            .await
            .with_context(|| format!("cannot read {}", path.display()))?;
        if !meta.is_file() {
            return Err(UsageError(format!("{} is not a file", path.display())).into());
        }
        let request = self
            .api
            .request(Method::POST, target)
            .header("content-type", "application/x-rpm")
            .header("content-length", meta.len())
            .body(Body::from(file));
        Ok(self.api.json(request).await?)
    }

    fn decode<T: DeserializeOwned>(&self, json: Value) -> anyhow::Result<Answer<T>> {
        let object = T::deserialize(&json).with_context(|| {
            format!(
                "{} answered with something this version does not understand",
                self.api.base()
            )
        })?;
        Ok(Answer { json, object })
    }
}

/// The API's path of a build.
pub fn build_path(build: i64) -> String {
    format!("/api/v1/builds/{build}")
}

/// A path with those parameters that have a value.
pub fn with_query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let given: Vec<String> = parameters
        .iter()
        .filter_map(|(name, value)| {
            value
                .as_ref()
                .map(|v| format!("{name}={}", path_segment(v)))
        })
        .collect();
    format!("{path}?{}", given.join("&"))
}
