//! Calls whose answers are timed.

use std::fmt;
use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;

use crate::Pipeline;

/// An answer of the frontend, read whole.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
    /// The body's type.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
    /// From the call to the last byte.
    pub took: Duration,
}

impl Pipeline {
    /// Calls the first frontend as administrator; panics when it cannot be reached.
    pub async fn call(
        &self,
        client: &Client,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Answer {
        let url = format!("{}{path}", self.cli.url);
        let request = client.request(method, &url).bearer_auth(&self.cli.token);
        Answer::to(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    /// Submits a build, given as the API takes it; its number.
    pub async fn submit_json(&self, client: &Client, build: &Value) -> i64 {
        let call = self.call(client, Method::POST, "/api/v1/builds", Some(build));
        let answer = call.await;
        assert_eq!(answer.status, 201, "{}", answer.json());
        answer.json()["id"]
            .as_i64()
            .unwrap_or_else(|| panic!("a build without a number: {}", answer.json()))
    }
}

impl Answer {
    /// The answer to a request; panics when the server cannot be reached.
    pub async fn to(request: RequestBuilder) -> Self {
        let called = Instant::now();
        let response = request.send().await;
        let response = response.unwrap_or_else(|error| panic!("{error:?}"));
        let header = |name: &str| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        Self {
            status: response.status().as_u16(),
            retry_after: header("retry-after").and_then(|seconds| seconds.parse().ok()),
            content_type: header("content-type").unwrap_or_default(),
            body: response.bytes().await.unwrap().to_vec(),
            took: called.elapsed(),
        }
    }

    /// The body as JSON; panics when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

/// How long answers took.
#[derive(Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Counts one.
    pub fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The time that so many of a hundred answers did not exceed; panics when nothing was measured.
    pub fn percentile(&self, percent: usize) -> Duration {
        assert!(!self.0.is_empty(), "nothing was measured");
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} answers, p50 {:.1?}, p99 {:.1?}, longest {:.1?}",
            self.count(),
            self.percentile(50),
            self.percentile(99),
            self.percentile(100)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_of_a_hundred_may_take_longer_than_the_99th_percentile() {
        let mut times = Times::default();
        (1..=100)
            .rev()
            .for_each(|ms| times.add(Duration::from_millis(ms)));
        assert_eq!(times.percentile(99), Duration::from_millis(99));
        assert_eq!(times.percentile(50), Duration::from_millis(50));
        assert_eq!(times.percentile(100), Duration::from_millis(100));
    }
}
