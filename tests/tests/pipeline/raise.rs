//! A project that allows it has a task tried once more with a larger limit after it hit one.

#![expect(clippy::unwrap_used, reason = "a test fails on the spot")]

use std::time::Duration;

use millrace_tests::{Fixture, Pipeline, PipelineOptions};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_mins(5);

/// Submits a fixture under a limit.
async fn submit(pipeline: &Pipeline, name: &str, limits: &[&str]) -> i64 {
    let fixture = Fixture::named(name);
    let chroot = ["--chroot", &pipeline.settings.chroot];
    let args = [&chroot[..], limits].concat();
    pipeline.cli.submit(fixture.path(), &args).await
}

/// The task of a build that has ended.
async fn ended(pipeline: &Pipeline, build: i64) -> Value {
    pipeline.ended(build, LONG).await["tasks"][0].clone()
}

/// Builds a fixture under a limit and gives the task.
async fn task(pipeline: &Pipeline, name: &str, limits: &[&str]) -> Value {
    let build = submit(pipeline, name, limits).await;
    ended(pipeline, build).await
}

async fn switch(pipeline: &Pipeline, to: &str) {
    let args = ["project", "set", "main/main", "--auto-raise", to];
    let project = pipeline.cli.json(&args).await;
    assert_eq!(project["auto_raise"], to == "on", "{project}");
}

/// Each attempt's outcome and the limit that it had.
fn attempts(task: &Value, limit: &str) -> Vec<(String, Value)> {
    let attempts = task["attempts"].as_array().unwrap();
    let of = |attempt: &Value| {
        let kind = attempt["outcome"]["kind"].as_str().unwrap().to_owned();
        (kind, attempt["limits"][limit].clone())
    };
    attempts.iter().map(of).collect()
}

#[tokio::test]
async fn a_limit_is_raised_once_where_the_project_allows_it() {
    let pipeline = Pipeline::start(PipelineOptions::default()).await;
    let known = ["--memory", "256"];
    let off = task(&pipeline, "memory-hog-256", &known).await;
    assert_eq!(off["state"], "failed", "{off:#}");
    assert_eq!(off["attempts"].as_array().unwrap().len(), 1, "{off:#}");

    switch(&pipeline, "on").await;
    let raised = submit(&pipeline, "memory-hog-256", &known).await;
    let endless = submit(&pipeline, "memory-hog", &known).await;
    let slow = submit(&pipeline, "slow", &["--memory", "512", "--timeout", "15"]).await;
    let raised = ended(&pipeline, raised).await;
    assert_eq!(raised["state"], "succeeded", "{raised:#}");
    assert_eq!(
        attempts(&raised, "memory_mib"),
        [
            ("out_of_memory".to_owned(), json!(256)),
            ("succeeded".to_owned(), json!(512))
        ]
    );
    assert_eq!(raised["raised_limit"]["value"], 512, "{raised:#}");
    assert_eq!(raised["attempts_counted"], 0, "{raised:#}");

    let endless = ended(&pipeline, endless).await;
    assert_eq!(endless["state"], "failed", "{endless:#}");
    assert_eq!(endless["outcome"]["kind"], "out_of_memory");
    assert_eq!(
        endless["attempts"].as_array().unwrap().len(),
        2,
        "{endless:#}"
    );

    let slow = ended(&pipeline, slow).await;
    assert_eq!(slow["state"], "succeeded", "{slow:#}");
    assert_eq!(
        attempts(&slow, "timeout_seconds"),
        [
            ("timed_out".to_owned(), json!(15)),
            ("succeeded".to_owned(), json!(60))
        ]
    );
    let shown = pipeline.cli.run(&["show", "2"]).await.stdout;
    for part in [
        "raised once after a hit limit: memory 512 MiB",
        "limits: memory 256 MiB, time 1800 s",
    ] {
        assert!(shown.contains(part), "{shown}");
    }

    switch(&pipeline, "off").await;
    let off = task(&pipeline, "memory-hog-256", &known).await;
    assert_eq!(off["attempts"].as_array().unwrap().len(), 1, "{off:#}");
    let unknown = ["project", "set", "main/other", "--auto-raise", "on"];
    assert_eq!(pipeline.cli.run(&unknown).await.code, 2);
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

#[tokio::test]
async fn disk_space_is_raised_and_what_no_builder_has_is_not_waited_for() {
    let settings = [
        ("MILLRACE_SANDBOX_DISK_MB", "300"),
        ("MILLRACE_BUILDER_MEMORY_MIB", "600"),
    ];
    let pipeline = Pipeline::start(PipelineOptions {
        builder_env: settings
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..PipelineOptions::default()
    })
    .await;
    switch(&pipeline, "on").await;
    let disk = task(
        &pipeline,
        "disk-hog",
        &["--memory", "512", "--timeout", "300"],
    )
    .await;
    assert_eq!(disk["outcome"]["kind"], "disk_full", "{disk:#}");
    assert_eq!(
        attempts(&disk, "disk_mib"),
        [
            ("disk_full".to_owned(), Value::Null),
            ("disk_full".to_owned(), json!(512))
        ]
    );
    assert_eq!(disk["outcome"]["limit"]["value"], 512, "{disk:#}");

    let memory = task(&pipeline, "memory-hog", &["--memory", "512"]).await;
    assert_eq!(memory["state"], "failed", "{memory:#}");
    assert_eq!(
        memory["attempts"].as_array().unwrap().len(),
        1,
        "768 MiB are more than the only builder has: {memory:#}"
    );
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

#[tokio::test]
async fn suggested_disk_space_is_taken_and_more_can_be_asked_for() {
    let pipeline = Pipeline::start(PipelineOptions {
        builder_env: vec![("MILLRACE_SANDBOX_DISK_MB".to_owned(), "300".to_owned())],
        ..PipelineOptions::default()
    })
    .await;
    let chroot = pipeline.settings.chroot.clone();
    let hog = Fixture::named("disk-hog");
    let first = [
        "--chroot",
        &chroot,
        "--memory",
        "512",
        "--timeout",
        "300",
        "--disk",
        "200",
    ];
    let first = pipeline.cli.submit(hog.path(), &first).await;
    let shown = pipeline.ended(first, LONG).await;
    let outcome = &shown["tasks"][0]["outcome"];
    assert_eq!(outcome["kind"], "disk_full", "{shown:#}");
    assert_eq!(outcome["limit"]["value"], 300, "the builder gives more");
    assert_eq!(outcome["suggested_limit"]["value"], 512, "{shown:#}");

    let again = ["resubmit", &first.to_string(), "--with-suggested-limits"];
    let again = pipeline.cli.json(&again).await["id"].as_i64().unwrap();
    let shown = pipeline.ended(again, LONG).await;
    assert_eq!(shown["disk_mib"], 512, "{shown:#}");
    assert_eq!(shown["tasks"][0]["attempts"][0]["limits"]["disk_mib"], 512);
    let outcome = &shown["tasks"][0]["outcome"];
    assert_eq!(outcome["limit"]["value"], 512, "{shown:#}");

    // What was asked for is kept, and bounded.
    let once_more = pipeline.cli.json(&["resubmit", &again.to_string()]).await;
    assert_eq!(once_more["disk_mib"], 512, "{once_more:#}");
    let too_much = ["resubmit", &first.to_string(), "--disk", "65537"];
    let refused = pipeline.cli.run(&too_much).await;
    assert_eq!(refused.code, 2);
    assert!(
        refused.stderr.contains("1 to 65536 MB"),
        "{}",
        refused.stderr
    );
    let id = once_more["id"].as_i64().unwrap();
    assert_eq!(pipeline.cli.run(&["cancel", &id.to_string()]).await.code, 0);
    pipeline.ended(id, LONG).await;
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}
