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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::code_of_error;
    use crate::testing::server::{Server, answer, broken, json as json_answer, problem};
    use crate::testing::{client, client_with, impatient};
    use serde_json::json;

    #[test]
    fn a_query_has_only_what_is_given_and_cannot_be_extended_by_a_value() {
        let state = Some("failed".to_owned());
        let project = Some("a/b&limit=9".to_owned());
        assert_eq!(
            with_query(
                "/x",
                &[("state", state), ("before", None), ("project", project)]
            ),
            "/x?state=failed&project=a%2Fb%26limit%3D9"
        );
    }

    #[tokio::test]
    async fn an_answer_is_kept_as_json_with_fields_that_this_program_does_not_know() {
        let server = Server::start(|_| json_answer(&json!({"items": [], "new_field": 1}))).await;
        let answer: Answer<crate::model::Page<Value>> = client(&server).get("/x").await.unwrap();
        assert_eq!(answer.json["new_field"], 1);
        assert!(answer.object.items.is_empty());
    }

    #[tokio::test]
    async fn json_of_another_form_is_told_with_the_server_that_sent_it() {
        let server = Server::start(|_| json_answer(&json!({"items": 7}))).await;
        let error = client(&server)
            .get::<crate::model::Page<Value>>("/x")
            .await
            .unwrap_err();
        let text = format!("{error:#}");
        let expected = format!(
            "{}/ answered with something this version does not understand: invalid type",
            server.url()
        );
        assert!(text.starts_with(&expected), "{text}");
        assert_eq!(code_of_error(&error), 3);
    }

    #[tokio::test]
    async fn a_read_fails_at_once_when_the_server_does() {
        let server = Server::start(|_| problem(503, &json!({"title": "away"}))).await;
        assert!(client(&server).get::<Value>("/x").await.is_err());
        assert_eq!(server.lines(), ["GET /x"]);
    }

    #[tokio::test]
    async fn a_read_through_an_outage_goes_on_until_there_is_an_answer() {
        let server = Server::start(|seen| match seen.earlier {
            0 => problem(503, &json!({"title": "database away"})),
            1 => answer(502, "text/html", "<html>"),
            _ => json_answer(&json!(1)),
        })
        .await;
        let answer: Answer<Value> = client(&server).get_through_outage("/x", "y").await.unwrap();
        assert_eq!((answer.json, server.lines().len()), (json!(1), 3));
    }

    #[tokio::test]
    async fn a_read_through_an_outage_ends_with_a_refusal() {
        let server = Server::start(|_| problem(404, &json!({"title": "unknown build"}))).await;
        let error = client(&server).get_through_outage::<Value>("/x", "y").await;
        assert_eq!(error.unwrap_err().to_string(), "unknown build");
        assert_eq!(server.lines().len(), 1);
    }

    #[tokio::test]
    async fn a_read_through_an_outage_gives_up_at_the_limit() {
        let server = Server::start(|_| problem(503, &json!({"title": "away"}))).await;
        let error = client_with(&server, impatient())
            .get_through_outage::<Value>("/x", "build 7 goes on without you")
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("away; gave up after"), "{text}");
        assert!(text.ends_with("build 7 goes on without you"), "{text}");
        assert_eq!(code_of_error(&error), 3);
    }

    #[tokio::test]
    async fn a_repeated_write_has_the_same_key_and_body() {
        let server = Server::start(|seen| match seen.earlier {
            0 => broken(b"{"),
            1 => problem(503, &json!({"title": "away"})),
            _ => json_answer(&json!({"id": 7})),
        })
        .await;
        let body = json!({"sources": ["http://h/a.src.rpm"]});
        let answer: Answer<Value> = client(&server).post("/x", &body).await.unwrap();
        assert_eq!(answer.json["id"], 7);
        let seen = server.seen();
        assert_eq!(seen.len(), 3);
        for request in &seen {
            assert_eq!(request.json(), body);
            assert_eq!(request.header("content-type"), "application/json");
            assert_eq!(
                request.header("idempotency-key"),
                seen[0].header("idempotency-key")
            );
        }
    }

    #[tokio::test]
    async fn two_writes_have_two_keys() {
        let server = Server::start(|_| json_answer(&json!(1))).await;
        let client = client(&server);
        client.post::<_, Value>("/x", &json!({})).await.unwrap();
        client.patch::<_, Value>("/x", &json!({})).await.unwrap();
        let seen = server.seen();
        assert_eq!(server.lines(), ["POST /x", "PATCH /x"]);
        let keys = [&seen[0], &seen[1]].map(|seen| seen.header("idempotency-key"));
        assert!(keys[0] != keys[1] && !keys[0].is_empty(), "{keys:?}");
    }

    #[tokio::test]
    async fn a_request_that_is_sent_once_is_not_repeated() {
        let server = Server::start(|_| problem(503, &json!({"title": "away"}))).await;
        let client = client(&server);
        assert!(client.post_once("/x", &json!({})).await.is_err());
        assert!(client.delete_once("/x").await.is_err());
        assert_eq!(server.lines(), ["POST /x", "DELETE /x"]);
    }

    #[tokio::test]
    async fn a_file_is_uploaded_again_from_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a b+1.src.rpm");
        std::fs::write(&file, "the package").unwrap();
        let server = Server::start(|seen| match seen.earlier {
            0 => problem(502, &json!({"title": "away"})),
            _ => json_answer(&json!({"sha256": "00"})),
        })
        .await;
        let stored = client(&server).upload(&file).await.unwrap();
        assert_eq!(stored["sha256"], "00");
        for request in server.seen() {
            assert_eq!(request.line, "POST /api/v1/sources?name=a%20b%2B1.src.rpm");
            assert_eq!(&request.body[..], b"the package");
            assert_eq!(request.header("content-length"), "11");
            assert_eq!(request.header("content-type"), "application/x-rpm");
        }
        assert_eq!(server.lines().len(), 2);
    }

    #[tokio::test]
    async fn what_cannot_be_uploaded_is_wrong_usage() {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(|_| json_answer(&json!({}))).await;
        for (path, told) in [
            (folder.path().to_owned(), "is not a file"),
            (folder.path().join("missing"), "cannot open"),
            ("/".into(), "has no usable file name"),
        ] {
            let error = client(&server).upload(&path).await.unwrap_err();
            assert!(error.to_string().contains(told), "{error}");
            assert_eq!(code_of_error(&error), 2);
        }
        assert!(server.lines().is_empty());
    }
}
