//! Each fixture ends as its `expected.toml` says, and leaves nothing behind.

use std::time::Duration;

use millrace_tests::{Expected, Fixture, Pipeline, PipelineOptions, fixtures};
use serde_json::Value;

/// What a build may take longer than its limit on time, until all of it has ended.
const END_WITHIN_SECONDS: f64 = 15.0;

/// Outcomes of what never came into a sandbox: a source that the builder itself refuses is never shown to mock.
fn has_run(expected: &Expected) -> bool {
    !matches!(expected.outcome.as_str(), "source_failed" | "skipped")
}

fn problem(fixture: &Fixture, build: &Value, log: &str) -> Option<String> {
    let outcome = &build["tasks"][0]["outcome"];
    let expected = &fixture.expected;
    let holds = |text: &Value, part: &Option<String>| {
        part.as_deref()
            .is_none_or(|part| text.as_str().unwrap_or_default().contains(part))
    };
    let peak = outcome["peak_memory_bytes"].as_u64().unwrap_or_default() >> 20;
    let right = outcome["kind"] == expected.outcome.as_str()
        && expected
            .stage
            .as_deref()
            .is_none_or(|stage| outcome["stage"] == stage)
        && holds(&outcome["message"], &expected.message)
        && holds(&outcome["first_error"]["text"], &expected.first_error)
        && expected
            .exit_code
            .filter(|_| has_run(expected))
            .is_none_or(|code| outcome["exit_code"] == code)
        && expected.peak_at_least_mib.is_none_or(|least| peak >= least)
        && expected.peak_at_most_mib.is_none_or(|most| peak <= most)
        && expected
            .log
            .as_deref()
            .is_none_or(|part| log.contains(part))
        && (!has_run(expected) || has_usage(outcome, expected));
    (!right).then(|| {
        format!(
            "{}: expected {expected:?}, got {outcome:#}; the log is {log:.2000}",
            fixture.name
        )
    })
}

/// However it ended, what it used is told, and lies within its limits.
fn has_usage(outcome: &Value, expected: &Expected) -> bool {
    let number = |name: &str| outcome[name].as_f64().unwrap_or_default();
    let wall_limit = f64::from(expected.timeout.unwrap_or(u32::MAX)) + END_WITHIN_SECONDS;
    let memory_limit = f64::from(expected.memory.unwrap_or(u32::MAX)) * f64::from(1 << 20);
    (1.0..=memory_limit).contains(&number("peak_memory_bytes"))
        && number("cpu_seconds") > 0.0
        && (0.001..=wall_limit).contains(&number("wall_seconds"))
}

/// Submits all fixtures to one pipeline at once, and tells which of them end otherwise than they should.
async fn problems(pipeline: &Pipeline, fixtures: Vec<Fixture>) -> Vec<String> {
    let chroot = pipeline.settings.chroot.clone();
    let mut submitted = Vec::new();
    for fixture in fixtures {
        let limits = fixture.limits();
        let args: Vec<&str> = ["--chroot", &chroot]
            .into_iter()
            .chain(limits.iter().map(String::as_str))
            .collect();
        let build = pipeline.cli.submit(fixture.path(), &args).await;
        submitted.push((fixture, build));
    }
    let mut problems = Vec::new();
    for (fixture, build) in &submitted {
        let ended = pipeline.ended(*build, Duration::from_mins(10)).await;
        let log = match fixture.expected.log {
            Some(_) => pipeline.cli.log(*build).await,
            None => String::new(),
        };
        problems.extend(problem(fixture, &ended, &log));
    }
    problems
}

#[test]
fn the_table_has_a_row_for_each_way_to_end_and_leaves_nothing_open() {
    let all = fixtures();
    let mut gaps = Vec::new();
    for Fixture { name, expected, .. } in &all {
        let is_success = matches!(expected.outcome.as_str(), "succeeded" | "skipped");
        let is_open = expected.message.is_none()
            || expected.memory.is_none()
            || expected.timeout.is_none()
            || (!is_success && expected.stage.is_none());
        if is_open {
            gaps.push(format!("{name}: {expected:?}"));
        }
    }
    assert!(gaps.is_empty(), "{}", gaps.join("\n"));
    let ends: std::collections::HashSet<_> = all
        .iter()
        .map(|f| (&f.expected.outcome, &f.expected.stage, &f.expected.message))
        .collect();
    assert!(ends.len() >= 25, "{} ways to end", ends.len());
}

#[tokio::test]
async fn every_fixture_ends_as_its_table_says() {
    let pipeline = Pipeline::start(PipelineOptions {
        sandboxes: 4,
        ..PipelineOptions::default()
    })
    .await;
    let plain = fixtures()
        .into_iter()
        .filter(|f| f.expected.builder.is_empty());
    let problems = problems(&pipeline, plain.collect()).await;
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

/// What hangs on engine and profile most: limits, the network, what a package tries, and results.
const DOZEN: [&str; 14] = [
    "hello",
    "compile-error",
    "memory-hog",
    "memory-hog-tolerated",
    "memory-shared",
    "sleeper",
    "background-writer",
    "missing-dependency",
    "two-rounds",
    "network-cut",
    "root-tricks",
    "hostile-link",
    "hostile-giant",
    "dash-package",
];

#[tokio::test]
#[ignore = "for another engine or profile than the suite's: scripts/test-podman"]
async fn a_dozen_fixtures_end_alike_on_this_engine() {
    let pipeline = Pipeline::start(PipelineOptions::default()).await;
    let problems = problems(&pipeline, DOZEN.map(Fixture::named).to_vec()).await;
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

#[tokio::test]
async fn every_fixture_that_needs_settings_ends_as_its_table_says() {
    for fixture in fixtures()
        .into_iter()
        .filter(|f| !f.expected.builder.is_empty())
    {
        let pipeline = Pipeline::start(PipelineOptions {
            builder_env: fixture.expected.builder.clone().into_iter().collect(),
            ..PipelineOptions::default()
        })
        .await;
        let problems = problems(&pipeline, vec![fixture]).await;
        assert!(problems.is_empty(), "{}", problems.join("\n"));
        pipeline.assert_nothing_left().await;
        pipeline.stop().await;
    }
}

#[tokio::test]
async fn a_memory_limit_is_enforced_and_explained() {
    let pipeline = Pipeline::start(PipelineOptions::default()).await;
    let chroot = pipeline.settings.chroot.clone();
    let hog = Fixture::named("memory-hog");
    let build = pipeline
        .cli
        .submit(hog.path(), &["--chroot", &chroot, "--memory", "512"])
        .await;
    let ended = pipeline.ended(build, Duration::from_mins(3)).await;
    let outcome = &ended["tasks"][0]["outcome"];
    assert_eq!(outcome["kind"], "out_of_memory", "{ended:#}");
    assert_eq!(outcome["limit"]["value"], 512);
    let peak = outcome["peak_memory_bytes"].as_u64().unwrap();
    assert!((300 << 20..=512 << 20).contains(&peak), "peak {peak}");
    assert_eq!(outcome["suggested_limit"]["value"], 768, "{ended:#}");
    let number = build.to_string();
    let again = pipeline
        .cli
        .json(&["resubmit", &number, "--with-suggested-limits"])
        .await;
    assert_eq!(again["limits"]["memory_mib"], 768, "{again:#}");

    let tolerated = Fixture::named("memory-hog-tolerated");
    let build = pipeline
        .cli
        .submit(tolerated.path(), &["--chroot", &chroot, "--memory", "512"])
        .await;
    let ended = pipeline.ended(build, Duration::from_mins(3)).await;
    let outcome = &ended["tasks"][0]["outcome"];
    assert!(
        outcome["oom_kills"].as_u64() > Some(0),
        "a survived kill is told: {ended:#}"
    );
    assert!(
        outcome["message"].as_str().unwrap().contains("memory"),
        "{ended:#}"
    );

    let hello = Fixture::named("hello");
    let build = pipeline
        .cli
        .submit(hello.path(), &["--chroot", &chroot, "--memory", "512"])
        .await;
    let ended = pipeline.ended(build, Duration::from_mins(3)).await;
    assert_eq!(
        ended["state"], "succeeded",
        "the next build on that builder works: {ended:#}"
    );
    pipeline.stop().await;
}

#[tokio::test]
async fn a_time_limit_ends_a_build_within_fifteen_seconds_and_keeps_its_log() {
    let pipeline = Pipeline::start(PipelineOptions::default()).await;
    let chroot = pipeline.settings.chroot.clone();
    let mut builds = Vec::new();
    for name in ["sleeper", "background-writer"] {
        let fixture = Fixture::named(name);
        let args = ["--chroot", &chroot, "--memory", "512", "--timeout", "20"];
        builds.push((name, pipeline.cli.submit(fixture.path(), &args).await));
    }
    for (name, build) in builds {
        let ended = pipeline.ended(build, Duration::from_mins(2)).await;
        let outcome = &ended["tasks"][0]["outcome"];
        assert_eq!(outcome["kind"], "timed_out", "{name}: {ended:#}");
        let wall = outcome["wall_seconds"].as_f64().unwrap();
        assert!((20.0..35.0).contains(&wall), "{name} took {wall} s");
        let attempt = &ended["tasks"][0]["attempts"][0];
        let log = pipeline.cli.log(build).await;
        assert_eq!(
            attempt["log_size"].as_u64(),
            Some(log.len() as u64),
            "{name}: the log is whole"
        );
        assert!(log.contains("Executing(%build)"), "{name}: {log}");
    }
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

#[tokio::test]
async fn use_is_told_of_what_fails_as_of_what_succeeds() {
    let pipeline = Pipeline::start(PipelineOptions::default()).await;
    let chroot = pipeline.settings.chroot.clone();
    for (name, state) in [("hello", "succeeded"), ("compile-error", "failed")] {
        let fixture = Fixture::named(name);
        let args = ["--chroot", &chroot, "--memory", "512"];
        let build = pipeline.cli.submit(fixture.path(), &args).await;
        let ended = pipeline.ended(build, Duration::from_mins(3)).await;
        assert_eq!(ended["state"], state, "{ended:#}");
        let outcome = &ended["tasks"][0]["outcome"];
        for field in [
            "peak_memory_bytes",
            "peak_memory_with_cache_bytes",
            "log_bytes",
            "result_bytes",
            "source_bytes",
        ] {
            let value = outcome[field].as_u64();
            assert!(value > Some(0), "{name}: {field} is {value:?}: {outcome:#}");
        }
        assert!(outcome["received_bytes"].is_u64(), "{name}: {outcome:#}");
        assert_eq!(outcome["oom_kills"], 0, "{name}");
        let size = std::fs::metadata(fixture.path()).unwrap().len();
        assert_eq!(outcome["source_bytes"].as_u64(), Some(size), "{name}");
        let stages = outcome["stage_seconds"].as_object().unwrap();
        for stage in ["fetch", "dependencies", "prep", "build", "collect"] {
            assert!(stages.contains_key(stage), "{name}: {stages:?}");
        }
        let all: f64 = stages.values().filter_map(Value::as_f64).sum();
        let wall = outcome["wall_seconds"].as_f64().unwrap();
        assert!(all > wall / 2.0, "{name}: {all} s in stages of {wall} s");
        let shown = pipeline.cli.run(&["show", &build.to_string()]).await.stdout;
        for part in [
            "peak memory ",
            "processor ",
            "received ",
            "log ",
            "results ",
        ] {
            assert!(shown.contains(part), "{name}: {part:?} in {shown}");
        }
    }
    pipeline.stop().await;
}
