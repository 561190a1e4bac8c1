//! A client that takes no lost answer for a refusal: it says the same again until it is answered, as the promise of an
//! idempotency key lets it.

use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::{Fixture, Pipeline, http_client, until};

/// A client of a pipeline; needs the pipeline no more once it is made.
#[derive(Debug, Clone)]
pub struct Client {
    url: String,
    token: String,
    chroot: String,
}

impl Client {
    /// A client of the pipeline's first frontend.
    pub fn of(pipeline: &Pipeline) -> Self {
        Self {
            url: pipeline.cli.url.clone(),
            token: pipeline.cli.token.clone(),
            chroot: pipeline.settings.chroot.clone(),
        }
    }

    /// Uploads a fixture's source package; gives the source as a submission names it.
    pub async fn upload(&self, fixture: &Fixture) -> Value {
        let name = fixture.srpm.file_name().unwrap().to_str().unwrap();
        let url = format!("{}/api/v1/sources?name={name}", self.url);
        let bytes = std::fs::read(&fixture.srpm).unwrap();
        let post = || {
            let request = http_client().post(&url).body(bytes.clone());
            request.header("content-type", "application/octet-stream")
        };
        let (status, stored) = self.answered("the source is stored", post).await;
        assert_eq!(status, StatusCode::CREATED, "{stored}");
        json!({ "sha256": stored["sha256"], "name": stored["name"] })
    }

    /// Submits a build of one source under a key; gives its number.
    pub async fn submit(&self, source: &Value, key: &str) -> i64 {
        let body = json!({ "sources": [source], "chroots": [self.chroot], "memory_reqs": 512, "timeout": 600 });
        let url = format!("{}/api/v1/builds", self.url);
        let post = || {
            let request = http_client().post(&url).json(&body);
            request.header("idempotency-key", key)
        };
        let (status, build) = self.answered("the build is stored", post).await;
        assert_eq!(status, StatusCode::CREATED, "{build}");
        build["id"].as_i64().unwrap()
    }

    /// Cancels a build; the last answer's status, a conflict where an earlier answer was lost.
    pub async fn cancel(&self, build: i64) -> StatusCode {
        let url = format!("{}/api/v1/builds/{build}/cancel", self.url);
        let post = || http_client().post(&url);
        self.answered("the cancel is answered", post).await.0
    }

    /// A build as the API shows it; none while the server is away.
    pub async fn show(&self, build: i64) -> Option<Value> {
        let get = http_client().get(format!("{}/api/v1/builds/{build}", self.url));
        self.answer(get).await.map(|(_, build)| build)
    }

    /// Waits until the only task of a build is in a state.
    pub async fn reached(&self, build: i64, state: &str) {
        until(&format!("build {build} is {state}"), async || {
            let shown = self.show(build).await?;
            (shown["tasks"][0]["state"] == state).then_some(())
        })
        .await;
    }

    /// Says it again until there is an answer.
    async fn answered(
        &self,
        what: &str,
        request: impl Fn() -> RequestBuilder,
    ) -> (StatusCode, Value) {
        until(what, async || self.answer(request()).await).await
    }

    /// The answer, unless it was lost or the server says that it is away.
    async fn answer(&self, request: RequestBuilder) -> Option<(StatusCode, Value)> {
        let answer = request.bearer_auth(&self.token).send().await.ok()?;
        let status = answer.status();
        let body = answer.json().await.ok()?;
        (!status.is_server_error()).then_some((status, body))
    }
}
