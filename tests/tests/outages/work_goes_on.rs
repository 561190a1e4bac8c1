//! What runs while RabbitMQ is away goes on: logs are shipped and followed, a cancel stops the work and is told, and
//! what is finished meanwhile waits on its builder and is reported afterwards.

#![expect(clippy::unwrap_used, reason = "a test fails on the spot")]

use std::time::Duration;

use futures_util::StreamExt;
use millrace_tests::{
    Fixture, Pipeline, PipelineOptions, http_client, running_sandboxes_of, until, until_within,
};
use reqwest::Method;
use serde_json::Value;

const LONG: Duration = Duration::from_mins(3);

async fn submit(pipeline: &Pipeline, fixture: &str) -> i64 {
    let chroot = pipeline.settings.chroot.as_str();
    let limits = ["--chroot", chroot, "--memory", "256", "--timeout", "600"];
    let source = Fixture::named(fixture);
    pipeline.cli.submit(source.path(), &limits).await
}

/// The attempts of a build's only task.
fn attempts(build: &Value) -> &Vec<Value> {
    build["tasks"][0]["attempts"].as_array().unwrap()
}

#[tokio::test]
async fn work_goes_on_while_the_broker_is_away() {
    let pipeline = Pipeline::start(PipelineOptions {
        sandboxes: 2,
        private_broker: true,
        ..PipelineOptions::default()
    })
    .await;
    let builders = pipeline.known_builders().await;
    let builder = builders[0]["id"].as_str().unwrap().to_owned();
    let (talker, sleeper) = (
        submit(&pipeline, "chatty").await,
        submit(&pipeline, "sleeper").await,
    );
    pipeline.logged(talker, "chatty line 1\n").await;
    pipeline.logged(sleeper, "going to sleep").await;
    pipeline.broker().stop();

    let client = http_client();
    let url = format!(
        "{}/api/v1/builds/{talker}/log?follow=true",
        pipeline.cli.url
    );
    let followed = client.get(&url).send().await.unwrap();
    let (followed, ()) = tokio::join!(
        read_to_the_end(followed),
        cancel_is_over_in_time(&pipeline, sleeper, &builder),
    );
    assert!(followed.contains("chatty line 200\n"), "{followed}");
    let waiting = pipeline.cli.show(talker).await;
    assert_eq!(waiting["state"], "running", "its report waits: {waiting:#}");

    pipeline.broker().start_again().await;
    let ended = pipeline.ended(talker, LONG).await;
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    assert_eq!(attempts(&ended).len(), 1, "{ended:#}");
    assert_eq!(pipeline.cli.show(sleeper).await["state"], "cancelled");
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

/// Follows the log until the builder has nothing more to say, which it is not until its report is in.
async fn read_to_the_end(log: reqwest::Response) -> String {
    let mut pieces = log.bytes_stream();
    let mut text = String::new();
    while !text.contains("succeeded: ") {
        let piece = tokio::time::timeout(LONG, pieces.next()).await;
        let piece = piece.unwrap().unwrap().unwrap();
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    text
}

/// The hint is lost; the next heartbeat brings the word, and the end is told without the broker.
async fn cancel_is_over_in_time(pipeline: &Pipeline, build: i64, builder: &str) {
    let path = format!("/api/v1/builds/{build}/cancel");
    let client = http_client();
    let answer = pipeline.call(&client, Method::POST, &path, None).await;
    assert_eq!(answer.status, 200);
    until_within(
        Duration::from_secs(10),
        "its sandbox has ended",
        async || (running_sandboxes_of(builder).len() < 2).then_some(()),
    )
    .await;
    let ended = until("the cancel is over", async || {
        let build = pipeline.cli.show(build).await;
        (build["state"] == "cancelled").then_some(build)
    })
    .await;
    let reason = attempts(&ended)[0]["reason"].as_str();
    assert_eq!(
        reason,
        Some("handed back: the build was cancelled"),
        "{ended:#}"
    );
}
