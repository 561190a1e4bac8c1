//! From the request to start a sandbox to the first line of %prep, with a baked chroot. The floor is the same image and the
//! same two mock calls by the engine's CLI; on top of it the pipeline puts the supervisor in and cuts the network between
//! the calls.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use millrace_tests::{Fixture, Pipeline, PipelineOptions, http_client};
use serde_json::{Value, json};

use crate::overhead::{create_args, docker, millis, upload};
use crate::stats::{Row, median};

/// How mock says that rpmbuild begins, which is where the stage `prep` does; the first line of %prep follows it with
/// nothing of ours in between.
const PREP: &str = "Start: rpmbuild";
/// The network of sandboxes, as builders call it by default.
const NETWORK: &str = "millrace-sandbox";

/// Runs it.
pub async fn measure(runs: usize) -> Vec<Row> {
    let pipeline = Pipeline::start(PipelineOptions {
        sandboxes: 1,
        ..PipelineOptions::default()
    })
    .await;
    let hello = Fixture::named("hello");
    let source = upload(&pipeline, &hello).await;
    let (mut values, mut floors, mut added) = (Vec::new(), Vec::new(), Vec::new());
    // The first of each warms caches up.
    for run in 0..=runs {
        let floor = by_the_engines_cli(&pipeline, &hello);
        let value = one_build(&pipeline, &source).await;
        if run > 0 {
            values.push(value);
            floors.push(floor);
            added.push(value - floor);
        }
    }
    pipeline.stop().await;
    let (value, floor) = (median(&mut values), median(&mut floors));
    vec![
        Row::new(
            "(e) start request -> rpmbuild begins, %prep first",
            value,
            "ms",
        )
        .floor(floor),
        Row::new("(e) added, median of pairs", median(&mut added), "ms").aim("<= 150 ms"),
    ]
}

/// Milliseconds from the end of the fetch, which is when the sandbox is asked for, to %prep, as the supervisor saw it.
async fn one_build(pipeline: &Pipeline, source: &Value) -> f64 {
    let entry = json!({ "sha256": source["sha256"], "name": source["name"] });
    let body =
        json!({ "sources": [entry], "chroots": [pipeline.settings.chroot], "memory_reqs": 512 });
    let build = pipeline.submit_json(&http_client(), &body).await;
    let build = pipeline.ended(build, Duration::from_mins(2)).await;
    assert_eq!(build["state"], "succeeded", "{build:#}");
    let stages = &build["tasks"][0]["attempts"][0]["stages"];
    let stage = |name: &str| {
        let all = stages.as_array().unwrap();
        all.iter().find(|stage| stage["name"] == name).unwrap()
    };
    let start =
        |name: &str| -> DateTime<Utc> { stage(name)["start"].as_str().unwrap().parse().unwrap() };
    let fetch = stage("fetch")["seconds"].as_f64().unwrap();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "microseconds of a short time"
    )]
    let fetched = start("fetch") + TimeDelta::microseconds((fetch * 1e6) as i64);
    millis(fetched, start("prep"))
}

/// The same by create, copy in and start with the log attached.
fn by_the_engines_cli(pipeline: &Pipeline, fixture: &Fixture) -> f64 {
    let settings = &pipeline.settings;
    let mock = format!(
        "mock -r {} --isolation simple --no-clean --no-cleanup-after --resultdir /tmp/result --config-opts print_main_output=True",
        settings.mock_root
    );
    // One stream: mock says its phases on standard error.
    let script = format!(
        "exec 2>&1; {mock} --installdeps /source.src.rpm && {mock} --offline --rebuild /source.src.rpm"
    );
    let mut args = create_args(pipeline);
    let begun = Utc::now();
    args.extend(["--network", NETWORK, "--entrypoint", "sh"]);
    args.extend([&settings.image, "-c", &script]);
    let id = docker(&args);
    docker(&["cp", fixture.path(), &format!("{id}:/source.src.rpm")]);
    let mut attached = Command::new("docker")
        .args(["start", "--attach", &id])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(attached.stdout.take().unwrap()).lines();
    let prep = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains(PREP)));
    let prepared = Utc::now();
    assert!(prep.is_some(), "mock did not come to {PREP}");
    for _ in lines {}
    attached.wait().unwrap();
    docker(&["rm", &id]);
    millis(begun, prepared)
}
