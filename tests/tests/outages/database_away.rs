//! While PostgreSQL is away every surface says so and when to come back; builders keep building and keep their
//! reports, and no lease runs out for time that database or frontends were away.

#![expect(clippy::unwrap_used, reason = "a test fails on the spot")]

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use millrace_tests::{
    Answer, Pipeline, PipelineOptions, Sandbox, http_client, until, until_within,
};
use reqwest::{Client, Method};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_mins(3);
/// Leases are this short here, so that an outage need not take minutes to outlast one.
const LEASE: Duration = Duration::from_secs(5);
/// How long things are away: longer than a lease, and longer than a call waits for the database.
const AWAY: Duration = Duration::from_secs(13);
/// How long a build takes: what begins just before the outage ends after it.
const BUILD: Duration = Duration::from_secs(18);

async fn start() -> Pipeline {
    let env = |name: &str, value: u128| (name.to_owned(), value.to_string());
    Pipeline::start(PipelineOptions {
        sandbox: Sandbox::Noop,
        sandboxes: 8,
        private_database: true,
        frontend_env: vec![
            env("MILLRACE_HEARTBEAT_SECONDS", 1),
            env("MILLRACE_SILENT_SECONDS", 3),
            env("MILLRACE_LEASE_SECONDS", LEASE.as_secs().into()),
        ],
        builder_env: vec![env("MILLRACE_NOOP_MILLIS", BUILD.as_millis())],
        ..PipelineOptions::default()
    })
    .await
}

async fn submit(pipeline: &Pipeline) -> i64 {
    let body = json!({"sources": ["https://example.org/hello-1-1.src.rpm"], "chroots": [pipeline.settings.chroot]});
    let client = http_client();
    let answer = pipeline
        .call(&client, Method::POST, "/api/v1/builds", Some(&body))
        .await;
    assert_eq!(answer.status, 201, "{}", answer.json());
    answer.json()["id"].as_i64().unwrap()
}

async fn running(pipeline: &Pipeline, count: u64) {
    until("the builds are running", async || {
        let tasks = &pipeline.get("/api/v1/status").await["tasks"];
        (tasks["running"] == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn every_surface_says_that_the_database_is_away_and_when_to_come_back() {
    let pipeline = start().await;
    let client = http_client();
    let build = submit(&pipeline).await;
    let builder = enrol(&pipeline, &client).await;
    pipeline.database().stop();

    all_calls_say_so(&pipeline, &client, build, &builder).await;
    for path in [
        "/waiting_builds/",
        "/backend/waiting_builds",
        "/waiting_builds/?limit=3",
    ] {
        let answer = ask(&pipeline, &client, Method::GET, path, "").await;
        assert_away(&answer, path);
        assert_eq!(answer.json(), json!({"builds": []}), "{path}");
        assert!(
            answer.took < Duration::from_secs(3),
            "{path}: {:?}",
            answer.took
        );
    }
    assert_away(
        &ask(&pipeline, &client, Method::GET, "/readyz", "").await,
        "/readyz",
    );
    assert_eq!(
        ask(&pipeline, &client, Method::GET, "/healthz", "")
            .await
            .status,
        200
    );
    assert_eq!(
        ask(&pipeline, &client, Method::GET, "/metrics", "")
            .await
            .status,
        200
    );
    let status = pipeline.get("/api/v1/status").await;
    assert_eq!(status["database"]["up"], false, "{status:#}");
    assert!(status["database"]["since"].is_string(), "{status:#}");

    pipeline.database().start_again().await;
    until("the frontend is ready again", async || {
        let ready = ask(&pipeline, &client, Method::GET, "/readyz", "").await;
        (ready.status == 200).then_some(())
    })
    .await;
    let ended = pipeline.ended(build, LONG).await;
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    pipeline.stop().await;
}

/// Calls of the native API, of result readers and of builders, all at once.
async fn all_calls_say_so(pipeline: &Pipeline, client: &Client, build: i64, builder: &str) {
    let own = pipeline.cli.token.as_str();
    let asked = [
        (Method::GET, "/api/v1/builds".to_owned(), own),
        (Method::POST, "/api/v1/builds".to_owned(), own),
        (Method::GET, format!("/api/v1/builds/{build}"), own),
        (Method::GET, format!("/api/v1/builds/{build}/log"), own),
        (
            Method::GET,
            format!("/api/v1/builds/{build}/log?follow=true"),
            own,
        ),
        (Method::POST, format!("/api/v1/builds/{build}/cancel"), own),
        (
            Method::POST,
            format!("/api/v1/builds/{build}/resubmit"),
            own,
        ),
        (Method::GET, "/api/v1/tasks/1".to_owned(), own),
        (Method::GET, "/api/v1/chroots".to_owned(), own),
        (Method::GET, "/api/v1/builders".to_owned(), own),
        (Method::GET, "/api/v1/parked".to_owned(), own),
        (Method::GET, "/results/main/main/".to_owned(), own),
        (Method::POST, "/builder/v1/claim".to_owned(), builder),
        (Method::POST, "/builder/v1/decline".to_owned(), builder),
        (Method::POST, "/builder/v1/heartbeat".to_owned(), builder),
        (
            Method::POST,
            format!("/builder/v1/attempts/{NOBODY}/log?offset=0"),
            builder,
        ),
        (
            Method::POST,
            "/builder/v1/enrol".to_owned(),
            pipeline.enrol_token(),
        ),
    ];
    let answers = asked.map(async |(method, path, token)| {
        let answer = ask(pipeline, client, method, &path, token).await;
        assert_away(&answer, &path);
        assert_eq!(answer.content_type, "application/problem+json", "{path}");
        assert_eq!(answer.json()["status"], 503, "{path}");
        assert!(answer.json()["id"].is_string(), "{path}");
    });
    join_all(answers).await;
}

const NOBODY: &str = "00000000-0000-0000-0000-000000000001";

/// A request that is well formed wherever it goes.
async fn ask(
    pipeline: &Pipeline,
    client: &Client,
    method: Method,
    path: &str,
    token: &str,
) -> Answer {
    let url = format!("{}{path}", pipeline.cli.url);
    let mut request = client.request(method.clone(), url).bearer_auth(token);
    if method == Method::POST {
        request = request
            .header("millrace-lease", "f".repeat(64))
            .json(&body_for(path, &pipeline.settings.chroot));
    }
    Answer::to(request).await
}

fn body_for(path: &str, chroot: &str) -> Value {
    match path.rsplit('/').next() {
        Some("builds") => {
            json!({"sources": ["https://example.org/a-1-1.src.rpm"], "chroots": [chroot]})
        }
        Some("claim") => json!({"attempt_id": NOBODY, "nonce": "0".repeat(64)}),
        Some("decline") => json!({"attempt_id": NOBODY, "reason": "no_room"}),
        Some("heartbeat") => json!({"free_mib": 0, "free_sandboxes": 0, "attempts": []}),
        Some("enrol") => enrolment(),
        _ => json!({}),
    }
}

/// A builder that only asks; it has no room for work.
fn enrolment() -> Value {
    json!({"builder_id": NOBODY, "name": "asks", "engine_id": "none", "engine_budget_mib": 1,
        "archs": ["s390x"], "memory_mib": 1, "sandboxes": 1, "version": "0"})
}

async fn enrol(pipeline: &Pipeline, client: &Client) -> String {
    let token = pipeline.enrol_token();
    let answer = ask(pipeline, client, Method::POST, "/builder/v1/enrol", token).await;
    answer.json()["token"].as_str().unwrap().to_owned()
}

fn assert_away(answer: &Answer, path: &str) {
    assert_eq!(answer.status, 503, "{path}");
    let seconds = answer.retry_after;
    assert!(matches!(seconds, Some(1..=60)), "{path}: {seconds:?}");
}

#[tokio::test]
async fn a_stopped_database_costs_no_lease_and_no_report() {
    outlive(async |pipeline| {
        pipeline.database().stop();
        away(pipeline).await;
        pipeline.database().start_again().await;
    })
    .await;
}

#[tokio::test]
async fn a_frozen_database_costs_no_lease_and_no_report() {
    outlive(async |pipeline| {
        pipeline.database().pause();
        away(pipeline).await;
        pipeline.database().unpause();
    })
    .await;
}

#[tokio::test]
async fn frontends_that_are_away_cost_no_lease_and_no_report() {
    outlive(async |pipeline| {
        pipeline.kill_frontends();
        away(pipeline).await;
        pipeline.start_first_frontend().await;
    })
    .await;
}

/// Waits until the outage has lasted long enough: the outage itself is the subject.
async fn away(pipeline: &Pipeline) {
    let began = Instant::now();
    until_within(LONG, "the outage has outlasted a lease", async || {
        let answer = pipeline.cli.run(&["status"]).await;
        (began.elapsed() > AWAY).then_some(answer.code)
    })
    .await;
}

/// Builds that end during the outage, and builds that end after it, are built once and keep their only claim.
async fn outlive(outage: impl AsyncFnOnce(&mut Pipeline)) {
    let mut pipeline = start().await;
    let mut builds = vec![submit(&pipeline).await, submit(&pipeline).await];
    running(&pipeline, 2).await;
    let begun = Instant::now();
    until("the first builds are some way on", async || {
        (begun.elapsed() > BUILD / 4).then_some(())
    })
    .await;
    builds.extend([submit(&pipeline).await, submit(&pipeline).await]);
    running(&pipeline, 4).await;
    outage(&mut pipeline).await;
    for build in &builds {
        let ended = pipeline.ended(*build, LONG).await;
        assert_eq!(ended["state"], "succeeded", "{ended:#}");
    }
    for (what, number) in [
        ("select count(*) from attempts", 4),
        ("select count(*) from attempts where state = 'finished'", 4),
        ("select count(*) from tasks where attempts_counted > 0", 0),
        ("select count(*) from parked_messages", 0),
    ] {
        assert_eq!(pipeline.count(what).await, number, "{what}");
    }
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}
