//! What the pipeline adds to one real build: submit → container started, and container exit → result readable.
//! The floor is the same image by the engine's CLI: create, copy in, start; and copying the results out.

use std::process::{Command, Stdio};
use std::time::Duration;

use chrono::{DateTime, Utc};
use millrace_tests::{Fixture, Pipeline, PipelineOptions, http_client, http_get, until_within};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::stats::{Row, median};

/// Runs it.
pub async fn measure(runs: usize) -> Vec<Row> {
    let pipeline = Pipeline::start(PipelineOptions {
        sandboxes: 1,
        ..PipelineOptions::default()
    })
    .await;
    let hello = Fixture::named("hello");
    let (mut before, mut after, mut floor_before, mut floor_after) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let source = upload(&pipeline, &hello).await;
    for _ in 0..runs {
        let (start, end) = one_build(&pipeline, &source).await;
        before.push(start);
        after.push(end);
        let (start, end) = by_the_engines_cli(&pipeline, &hello);
        floor_before.push(start);
        floor_after.push(end);
    }
    pipeline.stop().await;
    let (start, end) = (median(&mut before), median(&mut after));
    let (floor_start, floor_end) = (median(&mut floor_before), median(&mut floor_after));
    vec![
        Row::new("(c) submit -> container started", start, "ms").floor(floor_start),
        Row::new("(c) container exit -> result readable", end, "ms").floor(floor_end),
        Row::new(
            "(c) added in all",
            start + end - floor_start - floor_end,
            "ms",
        )
        .aim("<= 300 ms"),
    ]
}

pub(crate) async fn upload(pipeline: &Pipeline, fixture: &Fixture) -> Value {
    let answer = http_client()
        .post(format!(
            "{}/api/v1/sources?name=hello.src.rpm",
            pipeline.cli.url
        ))
        .bearer_auth(&pipeline.cli.token)
        .body(std::fs::read(&fixture.srpm).unwrap())
        .send()
        .await
        .unwrap();
    answer.error_for_status().unwrap().json().await.unwrap()
}

/// Milliseconds before the container's start and after its end.
async fn one_build(pipeline: &Pipeline, source: &Value) -> (f64, f64) {
    let mut events = Events::listen(pipeline);
    let client = http_client();
    let entry = json!({ "sha256": source["sha256"], "name": source["name"] });
    let body =
        json!({ "sources": [entry], "chroots": [pipeline.settings.chroot], "memory_reqs": 512 });
    let submitted = Utc::now();
    let build = pipeline.submit_json(&client, &body).await;
    let path = format!("/api/v1/builds/{build}");
    let started = events.wait_for("start").await;
    let died = events.wait_for("die").await;
    let readable = readable_at(pipeline, &path).await;
    events.child.kill().await.unwrap();
    (millis(submitted, started), millis(died, readable))
}

/// When the build has succeeded and its first package can be read.
async fn readable_at(pipeline: &Pipeline, path: &str) -> DateTime<Utc> {
    let mut interval = tokio::time::interval(Duration::from_millis(5));
    let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
    loop {
        interval.tick().await;
        assert!(
            tokio::time::Instant::now() < deadline,
            "the result was not readable within a minute"
        );
        let build = pipeline.get(path).await;
        let state = build["state"].as_str().unwrap_or_default().to_owned();
        assert_ne!(state, "failed", "{build:#}");
        if state == "succeeded" {
            let file = &build["tasks"][0]["attempts"][0]["packages"][0]["files"][0]["url"];
            http_get(file.as_str().unwrap())
                .await
                .error_for_status()
                .unwrap()
                .bytes()
                .await
                .unwrap();
            return Utc::now();
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of a short time")]
pub(crate) fn millis(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    (to - from).num_microseconds().unwrap() as f64 / 1000.0
}

/// The engine's own events about our sandboxes.
struct Events {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Events {
    fn listen(pipeline: &Pipeline) -> Self {
        let mut child = tokio::process::Command::new("docker")
            .args([
                "--host",
                &pipeline.settings.engine,
                "events",
                "--filter",
                "type=container",
            ])
            .args([
                "--filter",
                "label=millrace.attempt",
                "--format",
                "{{.Action}} {{.TimeNano}}",
            ])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn wait_for(&mut self, action: &str) -> DateTime<Utc> {
        until_within(Duration::from_mins(2), action, async || {
            let line = self
                .lines
                .next_line()
                .await
                .unwrap()
                .expect("the engine tells its events");
            let (word, nanos) = line.split_once(' ')?;
            (word == action).then(|| DateTime::from_timestamp_nanos(nanos.parse().unwrap()))
        })
        .await
    }
}

pub(crate) fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output().unwrap();
    assert!(
        output.status.success(),
        "docker {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Milliseconds for create + copy in + start, and for copying the results out + remove, of the same build.
fn by_the_engines_cli(pipeline: &Pipeline, fixture: &Fixture) -> (f64, f64) {
    let settings = &pipeline.settings;
    let begun = Utc::now();
    let mut args = create_args(pipeline);
    let mock = format!(
        "mock -r {} --isolation simple --no-clean --no-cleanup-after --resultdir /tmp/result --rebuild /source.src.rpm",
        settings.mock_root
    );
    args.extend(["--entrypoint", "sh", &settings.image, "-c", &mock]);
    let id = docker(&args);
    docker(&["cp", fixture.path(), &format!("{id}:/source.src.rpm")]);
    docker(&["start", &id]);
    let started = Utc::now();
    docker(&["wait", &id]);
    let died = Utc::now();
    let folder = tempfile::tempdir().unwrap();
    docker(&[
        "cp",
        &format!("{id}:/tmp/result"),
        folder.path().to_str().unwrap(),
    ]);
    let copied = Utc::now();
    docker(&["rm", &id]);
    (millis(begun, started), millis(died, copied))
}

/// The beginning of the engine's own command for a container such as a sandbox is.
pub(crate) fn create_args(pipeline: &Pipeline) -> Vec<&'static str> {
    let mut args = vec![
        "create",
        "--memory",
        "512m",
        "--memory-swap",
        "512m",
        "--env",
        "SUDO_UID=1000",
        "--env",
        "SUDO_GID=1000",
    ];
    if pipeline.settings.profile == "privileged" {
        args.push("--privileged");
    } else {
        args.extend(["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]);
        for capability in [
            "SYS_ADMIN",
            "SYS_CHROOT",
            "SETUID",
            "SETGID",
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "FSETID",
            "KILL",
            "SETFCAP",
        ] {
            args.extend(["--cap-add", capability]);
        }
    }
    args
}
