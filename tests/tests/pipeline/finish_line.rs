//! Work that is done is not thrown away: full disks, restarts and a missing image cost time only. Each wait says what
//! it waits for and ends by itself.

#![expect(clippy::unwrap_used, reason = "a test fails on the spot")]

use std::process::Command;
use std::time::Duration;

use millrace_tests::{
    BuilderOptions, Fixture, Pipeline, PipelineOptions, Sandbox, can_mount, http_get, until,
    until_within,
};
use serde_json::Value;

const LONG: Duration = Duration::from_mins(4);

async fn submit(pipeline: &Pipeline, fixture: &str) -> i64 {
    let chroot = pipeline.settings.chroot.as_str();
    let limits = ["--chroot", chroot, "--memory", "512", "--timeout", "600"];
    let source = Fixture::named(fixture);
    pipeline.cli.submit(source.path(), &limits).await
}

fn task(build: &Value) -> &Value {
    &build["tasks"][0]
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(pair).collect()
}

/// Waits until a build's task waits for this reason, and returns the sentence.
async fn waits(pipeline: &Pipeline, build: i64, reason: &str) -> String {
    until(&format!("build {build} waits: {reason}"), async || {
        let build = pipeline.cli.show(build).await;
        let wait = &task(&build)["wait"];
        (wait["reason"] == reason).then(|| wait["message"].as_str().unwrap().to_owned())
    })
    .await
}

/// Waits until a build's attempt says that its work is done and what it waits for.
async fn waits_with_results(pipeline: &Pipeline, build: i64, reason: &str) {
    until_within(
        LONG,
        &format!("the attempt waits for {reason}"),
        async || {
            let build = pipeline.cli.show(build).await;
            let attempts = task(&build)["attempts"].as_array().unwrap();
            let is_so = |attempt: &Value| attempt["waits_for"]["reason"] == reason;
            attempts.iter().any(is_so).then_some(())
        },
    )
    .await;
}

/// One accepted outcome, from one attempt, with nothing built twice and nothing left behind.
async fn assert_built_once(pipeline: &Pipeline, build: i64) {
    let ended = pipeline.ended(build, LONG).await;
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    let attempts = task(&ended)["attempts"].as_array().unwrap();
    let claimed = attempts.iter().filter(|a| !a["builder"].is_null());
    assert_eq!(claimed.count(), 1, "{ended:#}");
    let finished = attempts.iter().filter(|a| a["state"] == "finished");
    assert_eq!(finished.count(), 1, "{ended:#}");
    let log = pipeline.cli.log(build).await;
    let begun = log.matches("Executing(%build)").count();
    assert_eq!(begun, 1, "built once: {log}");
    pipeline.assert_nothing_left().await;
}

async fn builders_short_of_disk(pipeline: &Pipeline, count: u64) {
    until(&format!("{count} builders are short of disk"), async || {
        let status = pipeline.get("/api/v1/status").await;
        (status["builders_short_of_disk"] == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_builder_below_its_floor_takes_nothing_until_there_is_space() {
    if !can_mount() {
        return;
    }
    let mut pipeline = Pipeline::start(PipelineOptions {
        sandbox: Sandbox::Noop,
        spool_mib: Some(16),
        builder_env: env(&[("MILLRACE_SPOOL_FLOOR_MB", "8")]),
        ..PipelineOptions::default()
    })
    .await;
    pipeline.spool_disk().fill(4 << 10);
    builders_short_of_disk(&pipeline, 1).await;
    let builder = &pipeline.known_builders().await[0];
    assert_eq!(builder["short_of_disk"], true, "{builder:#}");
    assert_eq!(builder["disk_floor_mib"], 8, "{builder:#}");
    assert!(builder["disk_free_mib"].as_u64() < Some(8), "{builder:#}");
    assert!(pipeline.builders[0].log().contains("short of space"));

    let build = submit(&pipeline, "hello").await;
    let message = waits(&pipeline, build, "short_of_disk").await;
    assert!(message.starts_with("builders short of disk"), "{message}");
    pipeline.spool_disk().free();
    let ended = pipeline.ended(build, LONG).await;
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    assert_eq!(task(&ended)["attempts"].as_array().unwrap().len(), 1);
    builders_short_of_disk(&pipeline, 0).await;
    assert!(pipeline.builders[0].is_running());
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

#[tokio::test]
async fn an_order_that_cannot_be_written_down_is_declined_without_a_spin() {
    if !can_mount() {
        return;
    }
    let pipeline = Pipeline::start(PipelineOptions {
        sandbox: Sandbox::Noop,
        spool_mib: Some(16),
        // The floor does not help: the disk is full before the builder looks.
        builder_env: env(&[("MILLRACE_SPOOL_FLOOR_MB", "0")]),
        ..PipelineOptions::default()
    })
    .await;
    pipeline.spool_disk().fill(0);
    let build = submit(&pipeline, "hello").await;
    waits(&pipeline, build, "short_of_disk").await;
    pipeline.spool_disk().free();
    let ended = pipeline.ended(build, LONG).await;
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    let attempts = task(&ended)["attempts"].as_array().unwrap();
    assert!((2..=6).contains(&attempts.len()), "{ended:#}");
    assert_eq!(task(&ended)["outcome"]["kind"], "succeeded");
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

#[tokio::test]
async fn a_disk_that_is_full_at_collection_repeats_only_the_collection() {
    if !can_mount() {
        return;
    }
    let pipeline = Pipeline::start(PipelineOptions {
        spool_mib: Some(32),
        builder_env: env(&[("MILLRACE_SPOOL_FLOOR_MB", "1")]),
        ..PipelineOptions::default()
    })
    .await;
    let build = submit(&pipeline, "bulky").await;
    pipeline.logged(build, "bulky has begun").await;
    // Enough for the log, not for the package.
    pipeline.spool_disk().fill(2 << 10);
    waits_with_results(&pipeline, build, "spool_space").await;
    builders_short_of_disk(&pipeline, 1).await;
    pipeline.spool_disk().free();
    assert_built_once(&pipeline, build).await;
    builders_short_of_disk(&pipeline, 0).await;
    pipeline.stop().await;
}

#[tokio::test]
async fn a_disk_that_stays_full_is_the_builders_fault_and_says_what_to_do() {
    if !can_mount() {
        return;
    }
    let pipeline = Pipeline::start(PipelineOptions {
        spool_mib: Some(32),
        builder_env: env(&[
            ("MILLRACE_SPOOL_FLOOR_MB", "1"),
            ("MILLRACE_SPOOL_WAIT_SECONDS", "3"),
        ]),
        ..PipelineOptions::default()
    })
    .await;
    let build = submit(&pipeline, "bulky").await;
    pipeline.logged(build, "bulky has begun").await;
    pipeline.spool_disk().fill(2 << 10);
    let attempt = until_within(LONG, "the attempt has ended", async || {
        let build = pipeline.cli.show(build).await;
        let attempt = task(&build)["attempts"][0].clone();
        (attempt["state"] == "finished").then_some(attempt)
    })
    .await;
    assert_eq!(attempt["outcome"]["kind"], "builder_disk_full");
    let message = attempt["outcome"]["message"].as_str().unwrap();
    assert!(message.contains("MILLRACE_SPOOL_DIR"), "{message}");
    assert!(message.contains("waited 3 s"), "{message}");
    pipeline.spool_disk().free();
    let ended = pipeline.ended(build, LONG).await;
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

#[tokio::test]
async fn a_full_result_store_costs_only_the_upload() {
    if !can_mount() {
        return;
    }
    let pipeline = Pipeline::start(PipelineOptions {
        results_mib: Some(32),
        ..PipelineOptions::default()
    })
    .await;
    let build = submit(&pipeline, "bulky").await;
    pipeline.logged(build, "bulky has begun").await;
    // Room for a small file is no room for this package.
    pipeline.results_disk().fill(2 << 10);
    waits_with_results(&pipeline, build, "results_space").await;
    let shown = pipeline.cli.run(&["show", &build.to_string()]).await.stdout;
    assert!(
        shown.contains("waits for space in the result store"),
        "{shown}"
    );
    let results = pipeline.get("/api/v1/status").await["results"].clone();
    assert_eq!(results["up"], false, "{results:#}");
    assert!(!results["since"].is_null(), "{results:#}");
    assert_eq!(pipeline.cli.show(build).await["state"], "running");

    pipeline.results_disk().free();
    assert_built_once(&pipeline, build).await;
    until("the store has room again", async || {
        let status = pipeline.get("/api/v1/status").await;
        (status["results"]["up"] == true).then_some(())
    })
    .await;
    pipeline.stop().await;
}

#[tokio::test]
async fn spooled_results_outlive_a_killed_builder_and_a_restarted_frontend() {
    if !can_mount() {
        return;
    }
    let mut pipeline = Pipeline::start(PipelineOptions {
        results_mib: Some(32),
        ..PipelineOptions::default()
    })
    .await;
    let build = submit(&pipeline, "bulky").await;
    pipeline.logged(build, "bulky has begun").await;
    // A full result store holds the results on the spool.
    pipeline.results_disk().fill(512);
    waits_with_results(&pipeline, build, "results_space").await;
    pipeline.builders[0].kill();
    pipeline.restart_frontend().await;
    pipeline.add_builder(&BuilderOptions::default());
    waits_with_results(&pipeline, build, "results_space").await;
    pipeline.restart_frontend().await;
    pipeline.results_disk().free();
    assert_built_once(&pipeline, build).await;
    pipeline.stop().await;
}

/// An image that is there only once the test makes it.
struct Image(String);

impl Image {
    fn docker(&self, args: &[&str]) {
        let output = Command::new("docker").args(args).output().unwrap();
        assert!(output.status.success(), "{}: {output:?}", self.0);
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let args = ["rmi", "--force", &self.0];
        Command::new("docker").args(args).output().ok();
    }
}

#[tokio::test]
async fn a_missing_image_is_named_and_waited_for_without_using_up_an_attempt() {
    let image = Image(format!(
        "millrace-test/chroot-{}",
        uuid::Uuid::new_v4().simple()
    ));
    let pipeline = Pipeline::start(PipelineOptions {
        image: Some(image.0.clone()),
        ..PipelineOptions::default()
    })
    .await;
    let builds = [
        submit(&pipeline, "hello").await,
        submit(&pipeline, "hello").await,
    ];
    for build in builds {
        let message = waits(&pipeline, build, "image_missing").await;
        assert!(message.contains(&image.0), "{message}");
        assert!(message.contains(&pipeline.settings.chroot), "{message}");
    }
    let builder = &pipeline.known_builders().await[0];
    assert_eq!(builder["missing_images"][0], image.0, "{builder:#}");
    let status = pipeline.get("/api/v1/status").await;
    assert_eq!(status["builders_lacking_images"], 1, "{status:#}");

    image.docker(&["tag", &pipeline.settings.image, &image.0]);
    for build in builds {
        let ended = pipeline.ended(build, LONG).await;
        assert_eq!(ended["state"], "succeeded", "{ended:#}");
        let task = task(&ended);
        let attempts = task["attempts"].as_array().unwrap();
        let claimed: Vec<_> = attempts
            .iter()
            .filter(|a| !a["builder"].is_null())
            .collect();
        assert_eq!(claimed.len(), 1, "{ended:#}");
        assert!(attempts.len() <= 3, "no spin: {ended:#}");
    }
    let builder = &pipeline.known_builders().await[0];
    assert_eq!(builder["missing_images"], Value::Array(Vec::new()));
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

#[tokio::test]
async fn a_removed_log_is_told_to_be_gone() {
    let pipeline = Pipeline::start(PipelineOptions {
        sandbox: Sandbox::Noop,
        frontend_env: env(&[("MILLRACE_KEEP_LOGS", "1")]),
        ..PipelineOptions::default()
    })
    .await;
    let mut builds = Vec::new();
    for _ in 0..3 {
        let build = submit(&pipeline, "hello").await;
        pipeline.ended(build, LONG).await;
        builds.push(build);
    }
    let url = |build: i64| format!("{}/api/v1/builds/{build}/log", pipeline.cli.url);
    // The janitor's hourly turn came with the start; another frontend's clock would make the next one due.
    pipeline
        .execute("update turns set begun_at = '-infinity' where name = 'hour'")
        .await;
    until("the oldest log is removed", async || {
        (http_get(&url(builds[0])).await.status().as_u16() == 410).then_some(())
    })
    .await;
    let answer = http_get(&url(builds[0])).await;
    let problem: Value = answer.json().await.unwrap();
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("MILLRACE_KEEP_LOGS"), "{detail}");
    let output = pipeline.cli.run(&["log", &builds[0].to_string()]).await;
    assert_ne!(output.code, 0, "{output:?}");
    assert!(output.stderr.contains("was removed at"), "{output:?}");
    let newest = pipeline.cli.log(builds[2]).await;
    assert!(
        newest.contains("no-op stand-in"),
        "the newest is kept: {newest}"
    );
    let folders = std::fs::read_dir(pipeline.results().join("logs")).unwrap();
    assert_eq!(folders.count(), 1, "the bytes are gone too");
    pipeline.stop().await;
}
