//! Many builds in a row, four at once, a third of them killed, cancelled or over a limit: nothing is left of them, and
//! the builder does not grow.
//!
//! `MILLRACE_TEST_SOAK_BUILDS` sets how many; the long form has 200.

#![expect(clippy::unwrap_used, reason = "a test fails on the spot")]

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use millrace_tests::{
    Fixture, Pipeline, PipelineOptions, sandboxes_of, sized_by, until, until_within,
};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

const LONG: Duration = Duration::from_mins(6);
/// Builds at once.
const AT_ONCE: usize = 4;
/// How far the builder's resident memory may grow after the first third, in KiB.
const MAX_GROWTH: u64 = 10 * 1024;

/// What becomes of a build: of twelve in a row, four are ended by force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Succeeds,
    Fails,
    /// Its sandbox is killed, and the next attempt succeeds.
    Killed,
    Cancelled,
    OutOfMemory,
    TimedOut,
}

impl Fate {
    fn of(number: usize) -> Self {
        match number % 12 {
            2 => Self::Killed,
            5 => Self::Cancelled,
            8 => Self::OutOfMemory,
            11 => Self::TimedOut,
            3 | 9 => Self::Fails,
            _ => Self::Succeeds,
        }
    }

    fn fixture(self) -> Fixture {
        Fixture::named(match self {
            Self::Succeeds => "hello",
            Self::Fails => "compile-error",
            Self::Killed => "slow",
            Self::Cancelled | Self::TimedOut => "sleeper",
            Self::OutOfMemory => "memory-hog",
        })
    }

    fn outcome(self) -> &'static str {
        match self {
            Self::Succeeds | Self::Killed => "succeeded",
            Self::Fails => "build_failed",
            Self::Cancelled => "cancelled",
            Self::OutOfMemory => "out_of_memory",
            Self::TimedOut => "timed_out",
        }
    }
}

/// Where the engine mounted the file system of each of our containers, by the container's id.
type Seen = Arc<Mutex<HashMap<String, String>>>;

fn docker(engine: &str, args: &[&str]) -> String {
    let output = Command::new("docker")
        .args(["--host", engine])
        .args(args)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Notes each container of a builder as it starts, until the engine's command is dropped.
fn watch(engine: &str, builder: &str) -> (Seen, tokio::process::Child) {
    let seen = Seen::default();
    let label = format!("label=millrace.builder={builder}");
    let mut events = tokio::process::Command::new("docker")
        .args(["--host", engine, "events", "--filter", "event=start"])
        .args(["--filter", &label, "--format", "{{.ID}}"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines();
    let (into, engine) = (Arc::clone(&seen), engine.to_owned());
    tokio::spawn(async move {
        while let Ok(Some(id)) = lines.next_line().await {
            let format = "{{index .GraphDriver.Data \"MergedDir\"}}";
            let folder = docker(&engine, &["inspect", "--format", format, &id]);
            into.lock().unwrap().insert(id, folder);
        }
    });
    (seen, events)
}

async fn one(pipeline: &Pipeline, number: usize) {
    let fate = Fate::of(number);
    let chroot = pipeline.settings.chroot.clone();
    let timeout = if fate == Fate::TimedOut { "10" } else { "300" };
    let args = ["--chroot", &chroot, "--memory", "256", "--timeout", timeout];
    let build = pipeline.cli.submit(fate.fixture().path(), &args).await;
    if matches!(fate, Fate::Killed | Fate::Cancelled) {
        pipeline.logged(build, "Executing(%build)").await;
    }
    if fate == Fate::Cancelled {
        let run = pipeline.cli.run(&["cancel", &build.to_string()]).await;
        assert_eq!(run.code, 0, "{run:?}");
    }
    if fate == Fate::Killed {
        let shown = pipeline.cli.show(build).await;
        let attempt = shown["tasks"][0]["attempts"][0]["id"].as_str().unwrap();
        let label = format!("label=millrace.attempt={attempt}");
        let engine = &pipeline.settings.engine;
        let id = docker(engine, &["ps", "--quiet", "--filter", &label]);
        assert!(!id.is_empty(), "{shown:#}");
        docker(engine, &["kill", &id]);
    }
    let ended = pipeline.ended(build, LONG).await;
    let task = &ended["tasks"][0];
    assert_eq!(
        task["outcome"]["kind"],
        fate.outcome(),
        "{fate:?}: {ended:#}"
    );
    if fate == Fate::Killed {
        let first = &task["attempts"][0]["outcome"]["kind"];
        assert_eq!(first, "sandbox_failed", "{ended:#}");
    }
}

async fn many(pipeline: &Pipeline, numbers: std::ops::Range<usize>) {
    stream::iter(numbers)
        .map(|number| one(pipeline, number))
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
}

/// Processes that are in the control group of one of the containers.
fn processes_of(seen: &HashMap<String, String>) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let groups = std::fs::read_to_string(path.join("cgroup")).unwrap_or_default();
        if seen.keys().any(|id| groups.contains(id)) {
            found.push(path.display().to_string());
        }
    }
    found
}

fn mounts_of(seen: &HashMap<String, String>) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let ours = |line: &&str| {
        seen.iter()
            .any(|(id, folder)| line.contains(id) || (!folder.is_empty() && line.contains(folder)))
    };
    mounts.lines().filter(ours).map(str::to_owned).collect()
}

#[tokio::test]
async fn many_builds_in_a_row_leave_nothing_behind() {
    let wanted: usize = sized_by("MILLRACE_TEST_SOAK_BUILDS", 24);
    let network = format!("millrace-soak-{}", std::process::id());
    let pipeline = Pipeline::start(PipelineOptions {
        sandboxes: AT_ONCE,
        builder_env: vec![("MILLRACE_SANDBOX_NETWORK".to_owned(), network.clone())],
        // The faults here are the test's own.
        frontend_env: vec![("MILLRACE_SET_ASIDE_FAULTS".to_owned(), "1000".to_owned())],
        ..PipelineOptions::default()
    })
    .await;
    let engine = pipeline.settings.engine.clone();
    let known: Vec<Value> = pipeline.known_builders().await;
    let builder = known[0]["id"].as_str().unwrap().to_owned();
    let (seen, events) = watch(&engine, &builder);
    let first = wanted / 3;
    many(&pipeline, 0..first).await;
    let before = pipeline.builders[0].resident_kib();
    many(&pipeline, first..wanted).await;
    pipeline.assert_nothing_left().await;
    let after = pipeline.builders[0].resident_kib();
    println!(
        "{wanted} builds: the builder held {before} KiB after {first} of them, {after} KiB at the end"
    );
    assert!(
        after.saturating_sub(before) <= MAX_GROWTH,
        "it grew from {before} to {after} KiB"
    );
    drop(events);
    let seen = seen.lock().unwrap().clone();
    assert!(
        seen.len() >= wanted,
        "only {} sandboxes were seen",
        seen.len()
    );
    until_within(
        Duration::from_mins(1),
        "no process and no mount is left",
        async || (processes_of(&seen).is_empty() && mounts_of(&seen).is_empty()).then_some(()),
    )
    .await;
    assert_eq!(sandboxes_of(&builder), Vec::<String>::new());
    let images = format!("label=millrace.builder={builder}");
    assert_eq!(
        docker(&engine, &["images", "--quiet", "--filter", &images]),
        ""
    );
    let list = [
        "network",
        "ls",
        "--quiet",
        "--filter",
        &format!("name={network}"),
    ];
    assert_eq!(
        docker(&engine, &list).lines().count(),
        1,
        "one network for all"
    );
    let endpoints = [
        "network",
        "inspect",
        "--format",
        "{{len .Containers}}",
        &network,
    ];
    until("nothing is connected to the network", async || {
        (docker(&engine, &endpoints) == "0").then_some(())
    })
    .await;
    pipeline.stop().await;
    docker(&engine, &["network", "rm", &network]);
}
