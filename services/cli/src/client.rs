//! Calls to `/api/v1`. Objects are kept as JSON too, since `--json` prints what the server said.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use millrace_chassis::{
    ApiClient, ApiError, Backoff, BackoffExt, Body, CancellationToken, Method, path_segment,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use crate::exit::Usage;

/// How often a write is tried when the server cannot be reached; the key makes repeats harmless.
const WRITE_TRIES: u32 = 4;

/// An object as the server sent it and as this program reads it.
pub struct Answer<T> {
    pub json: Value,
    pub object: T,
}

/// Reads one object.
pub async fn get<T: DeserializeOwned>(api: &ApiClient, path: &str) -> anyhow::Result<Answer<T>> {
    let json: Value = api.get(path).await?;
    read(api, json)
}

/// Posts a body under an idempotency key, repeating it while the server cannot be reached.
pub async fn post<B: Serialize, T: DeserializeOwned>(
    api: &ApiClient,
    path: &str,
    body: &B,
) -> anyhow::Result<Answer<T>> {
    write(api, Method::POST, path, body).await
}

/// The same for a change of what is there.
pub async fn patch<B: Serialize, T: DeserializeOwned>(
    api: &ApiClient,
    path: &str,
    body: &B,
) -> anyhow::Result<Answer<T>> {
    write(api, Method::PATCH, path, body).await
}

async fn write<B: Serialize, T: DeserializeOwned>(
    api: &ApiClient,
    method: Method,
    path: &str,
    body: &B,
) -> anyhow::Result<Answer<T>> {
    let key = Uuid::new_v4().to_string();
    let body = serde_json::to_vec(body)?;
    let json: Value = repeat(|| {
        let request = api
            .request(method.clone(), path)
            .header("content-type", "application/json")
            .header("idempotency-key", &key)
            .body(body.clone());
        api.json(request)
    })
    .await?;
    read(api, json)
}

/// Streams a file to the server's source store.
pub async fn upload(api: &ApiClient, path: &Path) -> anyhow::Result<Value> {
    let name = path
        .file_name()
        .and_then(|n| n.to_str())
        .ok_or_else(|| Usage(format!("{} has no usable file name", path.display())))?;
    let target = format!("/api/v1/sources?name={}", path_segment(name));
    let mut backoff = backoff();
    for _ in 1..WRITE_TRIES {
        match send_file(api, &target, path).await {
            Err(error) if is_away(&error) => backoff.pause(&CancellationToken::new()).await,
            settled => return settled,
        };
    }
    send_file(api, &target, path).await
}

async fn send_file(api: &ApiClient, target: &str, path: &Path) -> anyhow::Result<Value> {
    let file = tokio::fs::File::open(path)
        .await
        .map_err(|e| Usage(format!("cannot open {}: {e}", path.display())))?;
    let meta = file
        .metadata()
        .await
        .with_context(|| format!("cannot read {}", path.display()))?;
    if !meta.is_file() {
        return Err(Usage(format!("{} is no file", path.display())).into());
    }
    let request = api
        .request(Method::POST, target)
        .header("content-type", "application/x-rpm")
        .header("content-length", meta.len())
        .body(Body::from(file));
    Ok(api.json(request).await?)
}

fn is_away(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<ApiError>()
        .is_some_and(ApiError::is_transient)
}

fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(300), Duration::from_secs(5))
}

async fn repeat<T, F>(mut call: impl FnMut() -> F) -> Result<T, ApiError>
where
    F: Future<Output = Result<T, ApiError>>,
{
    let mut backoff = backoff();
    for _ in 1..WRITE_TRIES {
        match call().await {
            Err(error) if error.is_transient() => backoff.pause(&CancellationToken::new()).await,
            settled => return settled,
        };
    }
    call().await
}

fn read<T: DeserializeOwned>(api: &ApiClient, json: Value) -> anyhow::Result<Answer<T>> {
    let object = T::deserialize(&json).with_context(|| {
        format!(
            "{} answered with something this version does not understand",
            api.base()
        )
    })?;
    Ok(Answer { json, object })
}
