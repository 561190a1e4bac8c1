//! Stopping in good order: builders finish or hand back, drained ones and those set aside get nothing, frontends close
//! their streams, and a rolling restart of everything costs nothing.

#![expect(clippy::unwrap_used, reason = "a test fails on the spot")]

use std::time::Duration;

use millrace_tests::{
    BuilderOptions, Cli, Fixture, Pipeline, PipelineOptions, Sandbox, free_port, until,
    until_within,
};
use rustix::process::Signal;
use serde_json::Value;
use tokio::sync::watch;

const LONG: Duration = Duration::from_mins(3);
/// An order that was handed back is with the next builder.
const SOON: Duration = Duration::from_secs(15);

/// Builders whose sandboxes run nothing for so long.
async fn noop(builders: usize, sandboxes: usize, millis: u32, more: &[(&str, &str)]) -> Pipeline {
    let millis = millis.to_string();
    let env = [&[("MILLRACE_NOOP_MILLIS", millis.as_str())], more].concat();
    let options = PipelineOptions {
        sandbox: Sandbox::Noop,
        builders,
        sandboxes,
        builder_env: pairs(&env),
        ..PipelineOptions::default()
    };
    Pipeline::start(options).await
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    list.iter().map(owned).collect()
}

async fn submit(cli: &Cli, chroot: &str) -> i64 {
    let more = ["--chroot", chroot, "--memory", "256"];
    cli.submit(Fixture::named("hello").path(), &more).await
}

async fn submitted(pipeline: &Pipeline) -> i64 {
    submit(&pipeline.cli, &pipeline.settings.chroot).await
}

async fn in_state(pipeline: &Pipeline, build: i64, state: &str) -> Value {
    until_within(SOON, &format!("build {build} is {state}"), async || {
        let build = pipeline.cli.show(build).await;
        (build["state"] == state).then_some(build)
    })
    .await
}

fn attempts_in<'a>(build: &'a Value, state: &str) -> Vec<&'a Value> {
    let attempts = build["tasks"][0]["attempts"].as_array().unwrap();
    attempts.iter().filter(|a| a["state"] == state).collect()
}

async fn assert_built_once(pipeline: &Pipeline, build: i64) -> Value {
    let ended = pipeline.ended(build, LONG).await;
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    assert_eq!(attempts_in(&ended, "finished").len(), 1, "{ended:#}");
    assert_eq!(ended["tasks"][0]["attempts_counted"], 0, "{ended:#}");
    ended
}

/// Stops the first builder as an operator does, and waits for its end.
async fn stop_builder(pipeline: &mut Pipeline) {
    pipeline.builders[0].signal(Signal::TERM);
    let status = pipeline.builders[0].ended(Duration::from_mins(1)).await;
    assert!(status.success(), "{status}: {}", pipeline.builders[0].log());
    pipeline.builders.remove(0);
}

#[tokio::test]
async fn a_stopped_builder_finishes_what_it_has_and_takes_nothing_more() {
    let mut pipeline = noop(1, 1, 5000, &[]).await;
    let running = submitted(&pipeline).await;
    in_state(&pipeline, running, "running").await;
    let waiting = submitted(&pipeline).await;
    stop_builder(&mut pipeline).await;
    let ended = assert_built_once(&pipeline, running).await;
    assert!(attempts_in(&ended, "revoked").is_empty(), "{ended:#}");
    let others = pipeline.cli.show(waiting).await;
    assert!(attempts_in(&others, "claimed").is_empty(), "{others:#}");
    let known = pipeline.known_builders().await;
    assert_eq!(known[0]["stopping"], true, "{known:#?}");
    pipeline.add_builder(&BuilderOptions::default());
    assert_built_once(&pipeline, waiting).await;
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

#[tokio::test]
async fn without_time_to_finish_work_is_handed_back_and_offered_again_within_seconds() {
    let mut pipeline = noop(1, 1, 600_000, &[("MILLRACE_DRAIN_SECONDS", "0")]).await;
    let build = submitted(&pipeline).await;
    in_state(&pipeline, build, "running").await;
    stop_builder(&mut pipeline).await;
    let back = pipeline.cli.show(build).await;
    assert_eq!(attempts_in(&back, "revoked").len(), 1, "{back:#}");
    pipeline.add_builder(&BuilderOptions {
        env: pairs(&[("MILLRACE_NOOP_MILLIS", "0")]),
    });
    let ended = until_within(SOON, "another builder builds it", async || {
        let build = pipeline.cli.show(build).await;
        (build["state"] == "succeeded").then_some(build)
    })
    .await;
    assert_eq!(ended["tasks"][0]["attempts_counted"], 0, "{ended:#}");
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

#[tokio::test]
async fn a_drained_builder_finishes_what_it_has_and_stays_drained_over_a_restart() {
    let mut pipeline = noop(1, 2, 4000, &[("MILLRACE_BUILDER_NAME", "one")]).await;
    let running = submitted(&pipeline).await;
    in_state(&pipeline, running, "running").await;
    let drained = pipeline.cli.json(&["drain", "one"]).await;
    assert!(drained["drained_at"].is_string(), "{drained:#}");
    let id = drained["id"].as_str().unwrap().to_owned();
    until("the builder has closed its room", async || {
        let known = pipeline.known_builders().await;
        (known[0]["free_sandboxes"] == 0 && known[0]["free_mib"] == 0).then_some(())
    })
    .await;
    let waiting = submitted(&pipeline).await;
    assert_built_once(&pipeline, running).await;
    stop_builder(&mut pipeline).await;
    pipeline.add_builder(&BuilderOptions::default());
    let reason = until("the task says why it waits", async || {
        let build = pipeline.cli.show(waiting).await;
        let wait = &build["tasks"][0]["wait"];
        (wait["reason"] == "builders_drained").then(|| wait["message"].clone())
    })
    .await;
    assert_eq!(reason, "builders drained: one");
    let status = pipeline.cli.json(&["status"]).await;
    assert_eq!(status["builders_drained"], 1, "{status:#}");
    let list = pipeline.cli.run(&["builder", "list"]).await;
    assert!(list.stdout.contains("  one  drained  "), "{list:?}");
    let build = pipeline.cli.show(waiting).await;
    assert!(attempts_in(&build, "claimed").is_empty(), "{build:#}");

    pipeline.cli.json(&["undrain", &id]).await;
    assert_built_once(&pipeline, waiting).await;
    let nobody = pipeline.cli.run(&["drain", "nobody"]).await;
    assert_eq!(nobody.code, 2, "{nobody:?}");
    pipeline.stop().await;
}

#[tokio::test]
async fn a_builder_with_repeated_faults_is_set_aside_until_its_self_test_passes() {
    let folder = tempfile::tempdir().unwrap();
    let supervisor = folder.path().join("supervisor");
    let options = |supervisor: &str| PipelineOptions {
        sandboxes: 1,
        builder_env: pairs(&[
            ("MILLRACE_SUPERVISOR", supervisor),
            ("MILLRACE_SELF_TEST_SECONDS", "1"),
        ]),
        ..PipelineOptions::default()
    };
    let real = millrace_tests::Settings::from_env().supervisor;
    std::fs::copy(&real, &supervisor).unwrap();
    let pipeline = Pipeline::start(options(supervisor.to_str().unwrap())).await;
    // Without it no sandbox starts, nor does the self-test pass.
    std::fs::remove_file(&supervisor).unwrap();
    let broken = submitted(&pipeline).await;
    let ended = pipeline.ended(broken, LONG).await;
    assert_eq!(ended["tasks"][0]["attempts_counted"], 3, "{ended:#}");
    let known = pipeline.known_builders().await;
    assert!(known[0]["set_aside_at"].is_string(), "{known:#?}");
    let waiting = submitted(&pipeline).await;
    let message = until("the task says why it waits", async || {
        let build = pipeline.cli.show(waiting).await;
        build["tasks"][0]["wait"]["message"]
            .as_str()
            .map(str::to_owned)
    })
    .await;
    assert!(message.starts_with("builders set aside: "), "{message}");
    until("the self-test has failed", async || {
        let log = pipeline.builders[0].log();
        log.contains("this builder stays set aside").then_some(())
    })
    .await;
    std::fs::copy(&real, &supervisor).unwrap();
    assert_built_once(&pipeline, waiting).await;
    let known = pipeline.known_builders().await;
    assert!(known[0]["set_aside_at"].is_null(), "{known:#?}");
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

#[tokio::test]
async fn a_followed_log_goes_on_after_the_frontend_was_restarted() {
    let mut pipeline = Pipeline::start(PipelineOptions {
        sandboxes: 1,
        ..PipelineOptions::default()
    })
    .await;
    let more = ["--chroot", &pipeline.settings.chroot.clone()];
    let source = Fixture::named("chatty");
    let build = pipeline.cli.submit(source.path(), &more).await;
    pipeline.logged(build, "Executing(%build)").await;
    let folder = tempfile::tempdir().unwrap();
    let printed = folder.path().join("log");
    let follow = ["log", "--follow", &build.to_string()];
    let mut command = pipeline.cli.command(&follow);
    let file = std::fs::File::create(&printed).unwrap();
    let mut following = command.stdout(file).spawn().unwrap();
    let text = || std::fs::read_to_string(&printed).unwrap();
    until("the log is followed", async || {
        text().contains("chatty line").then_some(())
    })
    .await;
    pipeline.frontends[0].signal(Signal::TERM);
    let status = pipeline.frontends[0].ended(Duration::from_secs(15)).await;
    assert!(status.success(), "it waits for no follower: {status}");
    pipeline.restart_frontend().await;
    assert_built_once(&pipeline, build).await;
    let status = following.wait().await.unwrap();
    assert!(status.success(), "{status}");
    assert!(text().contains("chatty line 200"), "{}", text());
    assert_eq!(text(), pipeline.cli.log(build).await);
    pipeline.stop().await;
}

/// Submits builds, one after the other, until it is told to stop; says which were accepted.
async fn load(cli: &Cli, chroot: &str, stop: watch::Receiver<bool>) -> Vec<i64> {
    let mut builds = Vec::new();
    while !*stop.borrow() {
        builds.push(submit(cli, chroot).await);
    }
    builds
}

#[tokio::test]
async fn a_rolling_restart_of_all_parts_loses_and_doubles_nothing() {
    let mut pipeline = Pipeline::start(PipelineOptions {
        sandbox: Sandbox::Noop,
        builders: 2,
        sandboxes: 4,
        private_database: true,
        private_broker: true,
        builder_env: pairs(&[("MILLRACE_NOOP_MILLIS", "700")]),
        ..PipelineOptions::default()
    })
    .await;
    let second = free_port();
    pipeline.start_frontend(second).await;
    let (stop, stopped) = watch::channel(false);
    let (cli, chroot) = (pipeline.cli.clone(), pipeline.settings.chroot.clone());
    let restarts = async {
        restart_all(&mut pipeline, second).await;
        stop.send(true).unwrap();
    };
    let (builds, ()) = tokio::join!(load(&cli, &chroot, stopped), restarts);
    assert!(builds.len() >= 10, "there was a load: {}", builds.len());
    for build in &builds {
        let ended = assert_built_once(&pipeline, *build).await;
        // A claim whose answer was cut off may have been given back, but nothing was begun twice.
        assert!(attempts_in(&ended, "lost").is_empty(), "{ended:#}");
    }
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

async fn restart_all(pipeline: &mut Pipeline, second: u16) {
    for _ in 0..2 {
        stop_builder(pipeline).await;
        pipeline.add_builder(&BuilderOptions::default());
        pipeline.wait_for_builders(2).await;
    }
    pipeline.frontends[1].signal(Signal::TERM);
    let status = pipeline.frontends[1].ended(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}");
    pipeline.frontends.remove(1);
    pipeline.start_frontend(second).await;
    pipeline.frontends[0].signal(Signal::TERM);
    let status = pipeline.frontends[0].ended(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}");
    pipeline.restart_frontend().await;
    pipeline.broker().stop();
    pipeline.broker().start_again().await;
    pipeline.database().stop();
    pipeline.database().start_again().await;
}
