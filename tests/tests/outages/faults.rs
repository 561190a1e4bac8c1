//! What is killed, stopped or restarted costs nothing but time.

#![expect(clippy::unwrap_used, reason = "a test fails on the spot")]

use std::path::Path;
use std::time::{Duration, Instant};

use millrace_tests::{
    BuilderOptions, Fixture, Pipeline, PipelineOptions, running_sandboxes_of, sandboxes_of,
    sized_by, until, until_within,
};
use rustix::process::Signal;
use serde_json::Value;

const LONG: Duration = Duration::from_mins(8);

fn attempts(build: &Value) -> &[Value] {
    build["tasks"][0]["attempts"]
        .as_array()
        .map_or(&[], Vec::as_slice)
}

fn claimed(build: &Value) -> Vec<&Value> {
    attempts(build)
        .iter()
        .filter(|a| !a["builder"].is_null())
        .collect()
}

async fn submit_many(pipeline: &Pipeline, fixture: &Fixture, count: usize) -> Vec<i64> {
    let chroot = pipeline.settings.chroot.clone();
    let mut builds = Vec::new();
    for _ in 0..count {
        builds.push(
            pipeline
                .cli
                .submit(fixture.path(), &["--chroot", &chroot, "--memory", "256"])
                .await,
        );
    }
    builds
}

async fn running(pipeline: &Pipeline, builds: &[i64]) -> usize {
    let mut count = 0;
    for build in builds {
        count += usize::from(pipeline.cli.show(*build).await["state"] == "running");
    }
    count
}

async fn assert_each_ended_once(pipeline: &Pipeline, builds: &[i64]) {
    for build in builds {
        let ended = pipeline.ended(*build, LONG).await;
        assert_eq!(ended["state"], "succeeded", "{ended:#}");
        let finished = attempts(&ended)
            .iter()
            .filter(|a| a["state"] == "finished")
            .count();
        assert_eq!(finished, 1, "one outcome is accepted: {ended:#}");
    }
}

#[tokio::test]
async fn a_killed_builders_task_goes_to_another_within_a_minute() {
    let mut pipeline = Pipeline::start(PipelineOptions {
        sandboxes: 1,
        ..PipelineOptions::default()
    })
    .await;
    let builds = submit_many(&pipeline, &Fixture::named("chatty"), 1).await;
    pipeline.logged(builds[0], "Executing(%build)").await;
    let first = pipeline.known_builders().await[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    pipeline.builders[0].kill();
    let killed = Instant::now();
    // Its own spool: the killed builder's identity must not come back.
    let spool = tempfile::tempdir().unwrap();
    let env = vec![(
        "MILLRACE_SPOOL_DIR".to_owned(),
        spool.path().to_str().unwrap().to_owned(),
    )];
    pipeline.add_builder(&BuilderOptions { env });
    until_within(
        Duration::from_mins(1),
        "the task is claimed again",
        async || (claimed(&pipeline.cli.show(builds[0]).await).len() == 2).then_some(()),
    )
    .await;
    assert!(killed.elapsed() < Duration::from_mins(1));
    until("the sandbox has ended by itself", async || {
        running_sandboxes_of(&first).is_empty().then_some(())
    })
    .await;

    let ended = pipeline.ended(builds[0], LONG).await;
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    let lost = claimed(&ended)[0];
    assert_eq!(lost["state"], "lost");
    assert_eq!(lost["outcome"]["kind"], "builder_lost", "{ended:#}");
    let log = pipeline
        .cli
        .run(&["log", &builds[0].to_string(), "--attempt", "1"])
        .await
        .stdout;
    assert!(
        log.contains("Executing(%build)"),
        "the first attempt's log is kept: {log}"
    );
    pipeline.stop().await;
    remove_containers(&first);
}

/// Nothing restarts it: only the dead man's switch inside each sandbox can end them.
#[tokio::test]
async fn all_sandboxes_of_a_killed_builder_end_by_themselves() {
    let mut pipeline = Pipeline::start(PipelineOptions {
        sandboxes: 4,
        ..PipelineOptions::default()
    })
    .await;
    let chroot = pipeline.settings.chroot.clone();
    let mut builds = Vec::new();
    for name in [
        "sleeper",
        "background-writer",
        "sleeper",
        "background-writer",
    ] {
        let args = ["--chroot", &chroot, "--memory", "256", "--timeout", "600"];
        let fixture = Fixture::named(name);
        builds.push(pipeline.cli.submit(fixture.path(), &args).await);
    }
    for build in &builds {
        pipeline.logged(*build, "Executing(%build)").await;
    }
    let builder = pipeline.known_builders().await[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(running_sandboxes_of(&builder).len(), 4);
    pipeline.builders[0].kill();
    let killed = Instant::now();
    until_within(
        Duration::from_secs(90),
        "all sandboxes have ended",
        async || running_sandboxes_of(&builder).is_empty().then_some(()),
    )
    .await;
    println!("all ended after {:.1?}", killed.elapsed());
    pipeline.stop().await;
    remove_containers(&builder);
}

fn remove_containers(builder: &str) {
    for id in sandboxes_of(builder) {
        std::process::Command::new("docker")
            .args(["rm", "--force", &id])
            .output()
            .unwrap();
    }
}

/// What a builder had written of an attempt's log.
fn spooled_log(spool: &Path, attempt: &str) -> String {
    let identities = std::fs::read_dir(spool).unwrap();
    let path = identities
        .map(|identity| {
            identity
                .unwrap()
                .path()
                .join("attempts")
                .join(attempt)
                .join("log")
        })
        .find(|path| path.exists())
        .unwrap();
    String::from_utf8(std::fs::read(path).unwrap()).unwrap()
}

#[tokio::test]
async fn a_restarted_builder_says_what_became_of_its_work() {
    let mut pipeline = Pipeline::start(PipelineOptions {
        sandboxes: 1,
        ..PipelineOptions::default()
    })
    .await;
    let builds = submit_many(&pipeline, &Fixture::named("chatty"), 1).await;
    pipeline.logged(builds[0], "Executing(%build)").await;
    let shown = pipeline.cli.show(builds[0]).await;
    let first = claimed(&shown)[0]["id"].as_str().unwrap().to_owned();
    pipeline.builders[0].kill();
    let spooled = spooled_log(&pipeline.spool(), &first);
    pipeline.add_builder(&BuilderOptions::default());
    let ended = pipeline.ended(builds[0], LONG).await;
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    assert_eq!(
        claimed(&ended)[0]["outcome"]["kind"],
        "builder_lost",
        "{ended:#}"
    );
    // All that the sandbox's output had come to when the builder died, to the last flush.
    let number = builds[0].to_string();
    let run = pipeline.cli.run(&["log", &number, "--attempt", "1"]).await;
    assert!(spooled.contains("Executing(%build)"), "{spooled}");
    assert!(
        run.stdout.starts_with(&spooled),
        "spooled:\n{spooled}\nin the store:\n{}",
        run.stdout
    );
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

#[tokio::test]
async fn a_builder_stopped_twice_hands_its_work_back_at_once() {
    let mut pipeline = Pipeline::start(PipelineOptions {
        sandboxes: 1,
        ..PipelineOptions::default()
    })
    .await;
    let builds = submit_many(&pipeline, &Fixture::named("chatty"), 1).await;
    pipeline.logged(builds[0], "Executing(%build)").await;
    pipeline.builders[0].signal(Signal::TERM);
    let builder = &pipeline.builders[0];
    until("the first signal is followed", async || {
        builder
            .log()
            .contains("a second signal hands")
            .then_some(())
    })
    .await;
    pipeline.builders[0].signal(Signal::TERM);
    let status = pipeline.builders[0].ended(Duration::from_secs(20)).await;
    assert!(status.success(), "{status}");
    let build = pipeline.cli.show(builds[0]).await;
    assert_eq!(claimed(&build)[0]["state"], "revoked", "{build:#}");
    assert_eq!(build["tasks"][0]["attempts_counted"], 0, "{build:#}");
    pipeline.add_builder(&BuilderOptions::default());
    assert_each_ended_once(&pipeline, &builds).await;
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

#[tokio::test]
async fn a_broker_restart_loses_and_doubles_nothing() {
    let at_once = builds_at_once();
    let options = PipelineOptions {
        builders: 0,
        sandboxes: at_once,
        private_broker: true,
        ..PipelineOptions::default()
    };
    let mut pipeline = Pipeline::start(options).await;
    let builds = submit_many(&pipeline, &Fixture::named("slow"), 2 * at_once).await;
    pipeline.add_builder(&BuilderOptions::default());
    until_within(LONG, "all sandboxes are taken", async || {
        (running(&pipeline, &builds).await == at_once).then_some(())
    })
    .await;
    pipeline.broker().crash_and_start().await;
    assert_each_ended_once(&pipeline, &builds).await;
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

/// Builds that run while the broker dies, as many as wait behind them: 8, or `MILLRACE_TEST_BUILDS_AT_ONCE`.
fn builds_at_once() -> usize {
    sized_by("MILLRACE_TEST_BUILDS_AT_ONCE", 8)
}

#[tokio::test]
async fn a_database_outage_longer_than_a_lease_loses_and_doubles_nothing() {
    let pipeline = Pipeline::start(PipelineOptions {
        sandboxes: 5,
        private_database: true,
        frontend_env: vec![(
            "MILLRACE_LEASE_SECONDS".to_owned(),
            LEASE.as_secs().to_string(),
        )],
        ..PipelineOptions::default()
    })
    .await;
    let builds = submit_many(&pipeline, &Fixture::named("slow"), 5).await;
    until_within(LONG, "all builds are running", async || {
        (running(&pipeline, &builds).await == 5).then_some(())
    })
    .await;
    pipeline.database().stop();
    let stopped = Instant::now();
    // The outage itself is the subject: it must last longer than a lease.
    until_within(LONG, "the outage has outlasted a lease", async || {
        let answer = pipeline.cli.run(&["show", "1"]).await;
        assert_eq!(answer.code, 3, "{answer:?}");
        (stopped.elapsed() > outage()).then_some(())
    })
    .await;
    pipeline.database().start_again().await;
    assert_each_ended_once(&pipeline, &builds).await;
    for build in &builds {
        let ended = pipeline.cli.show(*build).await;
        assert_eq!(
            claimed(&ended).len(),
            1,
            "nothing is built twice: {ended:#}"
        );
    }
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

/// A lease in the test of a database outage.
const LEASE: Duration = Duration::from_secs(15);

/// How long the database is away: 20 s, or `MILLRACE_TEST_OUTAGE_SECONDS`.
fn outage() -> Duration {
    Duration::from_secs(sized_by("MILLRACE_TEST_OUTAGE_SECONDS", 20))
}

#[tokio::test]
async fn a_killed_frontend_is_missed_by_nobody() {
    let mut pipeline = Pipeline::start(PipelineOptions {
        sandboxes: 4,
        ..PipelineOptions::default()
    })
    .await;
    let builds = submit_many(&pipeline, &Fixture::named("slow"), 6).await;
    until_within(LONG, "a build is running", async || {
        (running(&pipeline, &builds).await > 0).then_some(())
    })
    .await;
    pipeline.restart_frontend().await;
    assert_each_ended_once(&pipeline, &builds).await;
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}
