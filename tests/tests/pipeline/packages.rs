//! Several packages of one build: each one's results are there for the next, and one that failed is tried again.

#![expect(clippy::unwrap_used, reason = "a test fails on the spot")]

use std::time::Duration;

use millrace_tests::{BuilderOptions, Fixture, Pipeline, PipelineOptions};
use serde_json::Value;

const LONG: Duration = Duration::from_mins(5);

/// Submits packages in one build and in this order.
async fn submit(pipeline: &Pipeline, names: &[&str], more: &[&str]) -> i64 {
    let fixtures: Vec<Fixture> = names.iter().map(|name| Fixture::named(name)).collect();
    let first = fixtures[0].path();
    let others: Vec<&str> = fixtures[1..].iter().map(Fixture::path).collect();
    let limits = ["--chroot", &pipeline.settings.chroot, "--memory", "512"];
    pipeline
        .cli
        .submit(first, &[&others, &limits[..], more].concat())
        .await
}

fn attempts(build: &Value) -> &Vec<Value> {
    build["tasks"][0]["attempts"].as_array().unwrap()
}

/// The outcome of each package of the last attempt, in the order of submission.
fn outcomes(build: &Value) -> Vec<&str> {
    let packages = attempts(build).last().unwrap()["packages"].as_array();
    packages
        .unwrap()
        .iter()
        .map(|package| package["outcome"]["kind"].as_str().unwrap())
        .collect()
}

/// The packages that were begun, in order, as the log tells.
async fn begun(pipeline: &Pipeline, build: i64) -> Vec<u32> {
    let log = pipeline.cli.log(build).await;
    log.lines()
        .filter_map(|line| line.split_once("package "))
        .filter_map(|(_, rest)| rest.split_once(" of "))
        .filter_map(|(number, _)| number.parse().ok())
        .collect()
}

#[tokio::test]
async fn what_a_package_makes_is_there_for_the_next() {
    let pipeline = Pipeline::start(PipelineOptions::default()).await;
    let build = submit(&pipeline, &["lib-a", "needs-a"], &[]).await;
    let ended = pipeline.ended(build, LONG).await;
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    assert_eq!(outcomes(&ended), ["succeeded", "succeeded"]);
    assert_eq!(begun(&pipeline, build).await, [1, 2]);

    let build = submit(&pipeline, &["needs-a", "lib-a"], &[]).await;
    let ended = pipeline.ended(build, LONG).await;
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    assert_eq!(outcomes(&ended), ["succeeded", "succeeded"]);
    assert_eq!(begun(&pipeline, build).await, [1, 2, 1]);
    assert_eq!(attempts(&ended).len(), 1);
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

#[tokio::test]
async fn a_chain_in_the_wrong_order_is_built_all_the_same() {
    let pipeline = Pipeline::start(PipelineOptions::default()).await;
    let build = submit(&pipeline, &["uses-ask", "needs-a", "lib-a"], &[]).await;
    let ended = pipeline.ended(build, LONG).await;
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    assert_eq!(outcomes(&ended), ["succeeded", "succeeded", "succeeded"]);
    assert_eq!(begun(&pipeline, build).await, [1, 2, 3, 1, 2, 1]);
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

#[tokio::test]
async fn one_that_never_builds_fails_the_build_and_keeps_the_others() {
    let pipeline = Pipeline::start(PipelineOptions::default()).await;
    let build = submit(&pipeline, &["needs-a", "hello", "compile-error"], &[]).await;
    let ended = pipeline.ended(build, LONG).await;
    assert_eq!(ended["state"], "failed", "{ended:#}");
    assert_eq!(
        outcomes(&ended),
        ["dependency_failed", "succeeded", "build_failed"]
    );
    let outcome = &ended["tasks"][0]["outcome"];
    assert_eq!(outcome["kind"], "dependency_failed");
    let message = outcome["message"].as_str().unwrap();
    assert!(
        message.contains("needs-a") && message.contains("lib-a-devel"),
        "{message}"
    );
    assert_eq!(begun(&pipeline, build).await, [1, 2, 3, 1]);
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

#[tokio::test]
async fn a_cancel_in_between_keeps_what_was_built() {
    let pipeline = Pipeline::start(PipelineOptions::default()).await;
    let build = submit(&pipeline, &["lib-a", "sleeper", "hello"], &[]).await;
    pipeline.logged(build, "package 2 of 3").await;
    let run = pipeline.cli.run(&["cancel", &build.to_string()]).await;
    assert_eq!(run.code, 0, "{run:?}");
    let ended = pipeline.ended(build, Duration::from_secs(20)).await;
    assert_eq!(ended["state"], "cancelled", "{ended:#}");
    assert_eq!(outcomes(&ended), ["succeeded", "cancelled", "cancelled"]);
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

#[tokio::test]
async fn a_retry_after_a_fault_of_ours_keeps_the_packages_that_were_finished() {
    let mut pipeline = Pipeline::start(PipelineOptions::default()).await;
    let build = submit(&pipeline, &["lib-a", "slow", "needs-a"], &[]).await;
    pipeline.logged(build, "package 2 of 3").await;
    pipeline.builders[0].kill();
    pipeline.builders.clear();
    pipeline.add_builder(&BuilderOptions::default());
    let ended = pipeline.ended(build, LONG).await;
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    let attempts = attempts(&ended);
    assert_eq!(attempts.len(), 2, "{ended:#}");
    assert_eq!(attempts[0]["outcome"]["kind"], "builder_lost");
    assert_eq!(outcomes(&ended), ["succeeded", "succeeded", "succeeded"]);
    assert_eq!(begun(&pipeline, build).await, [2, 3]);
    let log = pipeline.cli.log(build).await;
    assert!(
        log.contains("is taken over from an earlier attempt"),
        "{log}"
    );
    let names = |attempt: &Value| -> Vec<String> {
        let files = attempt["packages"][0]["files"].as_array().unwrap();
        files.iter().map(|f| f["sha256"].to_string()).collect()
    };
    assert!(!names(&attempts[0]).is_empty());
    assert_eq!(names(&attempts[0]), names(&attempts[1]), "the same files");
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}
