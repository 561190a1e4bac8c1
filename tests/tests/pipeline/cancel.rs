//! A cancel is over at once where nothing runs, within ten seconds where something does, and does not wait for a
//! builder that is not heard of.

#![expect(clippy::unwrap_used, reason = "a test fails on the spot")]

use std::time::{Duration, Instant};

use millrace_tests::{
    Fixture, Pipeline, PipelineOptions, Sandbox, http_client, running_sandboxes_of, sandboxes_of,
    until, until_within,
};
use rustix::process::Signal;
use serde_json::Value;

/// `MILLRACE_SILENT_SECONDS`, a sweep each second, and a busy machine.
const SILENT: Duration = Duration::from_secs(20);
/// The dead man's switch waits 30 s for a word of the builder.
const ABANDONED: Duration = Duration::from_mins(1);

async fn submit(pipeline: &Pipeline, fixture: &str, more: &[&str]) -> i64 {
    let chroot = pipeline.settings.chroot.as_str();
    let limits = ["--chroot", chroot, "--memory", "512", "--timeout", "600"];
    let source = Fixture::named(fixture);
    pipeline
        .cli
        .submit(source.path(), &[&limits, more].concat())
        .await
}

/// Cancels over the API; status and body.
async fn cancel(pipeline: &Pipeline, build: i64) -> (u16, Value) {
    let url = format!("{}/api/v1/builds/{build}/cancel", pipeline.cli.url);
    let request = http_client().post(url).bearer_auth(&pipeline.cli.token);
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn attempt(build: &Value) -> &Value {
    &build["tasks"][0]["attempts"][0]
}

#[tokio::test]
async fn what_waits_is_cancelled_by_the_answer_and_what_has_ended_is_a_conflict() {
    let mut pipeline = Pipeline::start(PipelineOptions {
        sandbox: Sandbox::Noop,
        builders: 0,
        ..PipelineOptions::default()
    })
    .await;
    let waiting = submit(&pipeline, "hello", &[]).await;
    let (status, cancelled) = cancel(&pipeline, waiting).await;
    assert_eq!((status, &cancelled["state"]), (200, &"cancelled".into()));

    pipeline.add_builder(&millrace_tests::BuilderOptions::default());
    let built = submit(&pipeline, "hello", &[]).await;
    let ended = pipeline.ended(built, Duration::from_mins(1)).await;
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    for (build, state) in [(waiting, "cancelled"), (built, "succeeded")] {
        let (status, problem) = cancel(&pipeline, build).await;
        assert_eq!(status, 409, "{problem:#}");
        let wanted = format!("build {build} has already ended: {state}");
        assert_eq!(problem["detail"], wanted, "{problem:#}");
        assert_eq!(pipeline.cli.show(build).await["state"], state);
    }
    pipeline.stop().await;
}

#[tokio::test]
async fn running_work_has_stopped_within_ten_seconds() {
    let pipeline = Pipeline::start(PipelineOptions::default()).await;
    let builder = builder_id(&pipeline).await;
    let build = submit(&pipeline, "sleeper", &[]).await;
    pipeline.logged(build, "going to sleep").await;
    let asked = Instant::now();
    assert_eq!(cancel(&pipeline, build).await.0, 200);
    until_within(
        Duration::from_secs(10),
        "the sandbox has ended",
        async || running_sandboxes_of(&builder).is_empty().then_some(()),
    )
    .await;
    println!("stopped {:?} after the cancel", asked.elapsed());
    let ended = pipeline.ended(build, Duration::from_secs(10)).await;
    assert_eq!(ended["state"], "cancelled", "{ended:#}");
    assert_eq!(attempt(&ended)["state"], "finished", "the builder told it");
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

#[tokio::test]
async fn an_unreachable_builder_is_not_waited_for_and_what_it_says_later_is_refused() {
    let pipeline = Pipeline::start(PipelineOptions::default()).await;
    let builder = builder_id(&pipeline).await;
    let (first, second) = (
        submit(&pipeline, "sleeper", &[]).await,
        submit(&pipeline, "sleeper", &[]).await,
    );
    for build in [first, second] {
        pipeline.logged(build, "going to sleep").await;
    }
    pipeline.builders[0].signal(Signal::STOP);

    // It falls silent with the cancel: a sweep finds it.
    let asked = Instant::now();
    assert_eq!(cancel(&pipeline, first).await.1["state"], "running");
    let ended = pipeline.ended(first, SILENT).await;
    println!("cancelled {:?} after the cancel", asked.elapsed());
    assert_revoked(&ended);
    // It is silent by now: the answer to the cancel tells the end.
    let (status, ended) = cancel(&pipeline, second).await;
    assert_eq!(status, 200, "{ended:#}");
    assert_revoked(&ended);

    // Its sandboxes end by themselves while it is still stopped.
    until_within(ABANDONED, "the sandboxes have ended", async || {
        running_sandboxes_of(&builder).is_empty().then_some(())
    })
    .await;
    assert_eq!(sandboxes_of(&builder).len(), 2, "nobody else removes them");

    // Woken up, it tells how its sandboxes ended: nobody wants to know, and it keeps nothing.
    pipeline.builders[0].signal(Signal::CONT);
    pipeline.assert_nothing_left().await;
    for build in [first, second] {
        assert_revoked(&pipeline.cli.show(build).await);
    }
    let fresh = submit(&pipeline, "hello", &[]).await;
    let ended = pipeline.ended(fresh, Duration::from_mins(2)).await;
    assert_eq!(
        ended["state"], "succeeded",
        "the builder is whole: {ended:#}"
    );
    pipeline.stop().await;
}

#[tokio::test]
async fn a_builder_heard_again_before_its_sandbox_ended_drops_it() {
    let pipeline = Pipeline::start(PipelineOptions::default()).await;
    let builder = builder_id(&pipeline).await;
    let build = submit(&pipeline, "sleeper", &[]).await;
    pipeline.logged(build, "going to sleep").await;
    pipeline.builders[0].signal(Signal::STOP);
    assert_eq!(cancel(&pipeline, build).await.0, 200);
    assert_revoked(&pipeline.ended(build, SILENT).await);
    assert_eq!(running_sandboxes_of(&builder).len(), 1, "it still sleeps");
    pipeline.builders[0].signal(Signal::CONT);
    until("the sandbox has ended", async || {
        running_sandboxes_of(&builder).is_empty().then_some(())
    })
    .await;
    pipeline.assert_nothing_left().await;
    assert_revoked(&pipeline.cli.show(build).await);
    pipeline.stop().await;
}

fn assert_revoked(build: &Value) {
    let task = &build["tasks"][0];
    assert_eq!(task["state"], "cancelled", "{build:#}");
    assert_eq!(task["outcome"]["kind"], "cancelled", "{build:#}");
    assert_eq!(task["attempts"].as_array().unwrap().len(), 1, "{build:#}");
    assert_eq!(attempt(build)["state"], "revoked", "{build:#}");
    let message = task["outcome"]["message"].as_str().unwrap();
    assert!(message.contains("not heard of"), "{message}");
}

async fn builder_id(pipeline: &Pipeline) -> String {
    let builders = pipeline.known_builders().await;
    builders[0]["id"].as_str().unwrap().to_owned()
}
