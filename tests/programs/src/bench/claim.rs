//! Idle submit → claim recorded: from the call of the client to the claim in the database.

use std::time::Duration;

use chrono::{DateTime, Utc};
use millrace_tests::{Pipeline, PipelineOptions, Sandbox, http_client, until};
use reqwest::Client;
use serde_json::{Value, json};

use crate::stats::{Row, median, percentile};

const SUBMISSIONS: usize = 200;
/// 50 submissions a second, so that each meets an idle pipeline.
const SPACING: Duration = Duration::from_millis(20);

/// Runs it.
pub async fn measure(runs: usize) -> Vec<Row> {
    let pipeline = Pipeline::start(PipelineOptions {
        sandbox: Sandbox::Noop,
        sandboxes: 16,
        ..PipelineOptions::default()
    })
    .await;
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let mut samples = one_run(&pipeline).await;
        p50.push(median(&mut samples));
        p99.push(percentile(&mut samples, 0.99));
    }
    pipeline.stop().await;
    vec![
        Row::new(
            "(a) idle submit -> claim recorded, p50",
            median(&mut p50),
            "ms",
        )
        .aim("<= 10 ms"),
        Row::new(
            "(a) idle submit -> claim recorded, p99",
            median(&mut p99),
            "ms",
        )
        .aim("<= 30 ms"),
    ]
}

async fn one_run(pipeline: &Pipeline) -> Vec<f64> {
    let client = http_client();
    let mut interval = tokio::time::interval(SPACING);
    let mut calls = Vec::with_capacity(SUBMISSIONS);
    for _ in 0..SUBMISSIONS {
        interval.tick().await;
        let called = Utc::now();
        calls.push((submit(pipeline, &client).await, called));
    }
    let mut samples = Vec::with_capacity(SUBMISSIONS);
    for (build, called) in calls {
        let claimed = until("the build is claimed", async || {
            claimed_at(&pipeline.cli.show(build).await)
        })
        .await;
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a short time")]
        samples.push((claimed - called).num_microseconds().unwrap() as f64 / 1000.0);
    }
    samples
}

/// Submits a build of a URL; the no-op stand-in fetches nothing.
pub async fn submit(pipeline: &Pipeline, client: &Client) -> i64 {
    let body = json!({ "sources": ["https://example.org/hello-1-1.src.rpm"], "chroots": [pipeline.settings.chroot] });
    pipeline.submit_json(client, &body).await
}

fn claimed_at(build: &Value) -> Option<DateTime<Utc>> {
    build["tasks"][0]["attempts"]
        .as_array()?
        .iter()
        .find_map(|a| a["claimed_at"].as_str())?
        .parse()
        .ok()
}
