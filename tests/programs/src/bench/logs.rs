//! Logs: how fast a gibibyte goes through the pipeline, against the engine's CLI attached to a sandbox of the same image
//! that prints the same, and how long a line takes to two hundred readers of one log. What prints is a script in the
//! place of mock: mock itself writes line by line, at a few MiB a second, and would be all that is measured.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chrono::Utc;
use futures_util::StreamExt as _;
use millrace_tests::{Fixture, Pipeline, PipelineOptions, Settings, http_client, until_within};
use tokio::task::JoinSet;

use crate::stats::{Row, median, percentile};

/// What the printing program says, line after line.
const LINE: &str = "a line of an endless log ......................................................................................";
const GIBIBYTE: u64 = 1 << 30;
/// Measured from the first mebibyte on: what a build says before it prints is not meant.
const BEGUN: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_mins(10);
const READERS: usize = 200;

/// Runs both.
pub async fn measure(runs: usize) -> Vec<Row> {
    let mut rows = flood(runs).await;
    rows.extend(readers().await);
    rows
}

/// The limit on a log is raised to a gibibyte, all of which is kept and shipped.
async fn flood(runs: usize) -> Vec<Row> {
    let image = PrintingImage::build();
    let caps = ["MILLRACE_LOG_HEAD_MB", "MILLRACE_LOG_LIMIT_MB"];
    let pipeline = Pipeline::start(PipelineOptions {
        sandboxes: 1,
        builder_env: caps
            .map(|name| (name.to_owned(), "1024".to_owned()))
            .to_vec(),
        image: Some(image.name.clone()),
        ..PipelineOptions::default()
    })
    .await;
    let (mut rates, mut floors) = (Vec::new(), Vec::new());
    let mut resident: u64 = 0;
    for _ in 0..runs {
        floors.push(image.by_the_engines_cli());
        let (rate, kib) = one_flood(&pipeline).await;
        rates.push(rate);
        resident = resident.max(kib);
    }
    pipeline.stop().await;
    let name = "1 GiB of log, sandbox -> result store";
    vec![
        Row::new(name, median(&mut rates), "MiB/s")
            .floor(median(&mut floors))
            .aim("ratio >= 0.25"),
        Row::new(
            "  resident memory of the builder meanwhile, at most",
            resident as f64 / 1024.0,
            "MiB",
        )
        .aim("<= 64 MiB"),
    ]
}

/// MiB a second, and the builder's resident memory at its highest, in KiB.
async fn one_flood(pipeline: &Pipeline) -> (f64, u64) {
    let build = submit(pipeline, "hello").await;
    let path = format!("/api/v1/builds/{build}");
    let size = async || {
        let build = pipeline.get(&path).await;
        build["tasks"][0]["attempts"][0]["log_size"]
            .as_u64()
            .unwrap_or_default()
    };
    let first = until_within(PATIENCE, "the log has begun", async || {
        Some(size().await).filter(|size| *size >= BEGUN)
    })
    .await;
    let begun = Instant::now();
    let mut resident = 0;
    let last = until_within(PATIENCE, "a gibibyte of log is stored", async || {
        resident = resident.max(pipeline.builders[0].resident_kib());
        Some(size().await).filter(|size| *size >= GIBIBYTE - BEGUN)
    })
    .await;
    let seconds = begun.elapsed().as_secs_f64();
    let ended = pipeline.ended(build, PATIENCE).await;
    assert_eq!(
        ended["tasks"][0]["outcome"]["kind"], "log_too_large",
        "{ended:#}"
    );
    (mebibytes(last - first) / seconds, resident)
}

/// The chroot's image with a `mock` that prints without end where it is told to build. Removed when dropped.
struct PrintingImage {
    name: String,
    engine: String,
}

impl PrintingImage {
    fn build() -> Self {
        let settings = Settings::from_env();
        let image = Self {
            name: format!("millrace-bench-printing:{}", std::process::id()),
            engine: settings.engine,
        };
        let dockerfile = format!(
            "FROM {}\nUSER 0\nRUN printf '#!/bin/sh\\ncase $* in *--rebuild*) exec yes \"{LINE}\" ;; esac\\n' > \"$(command -v mock)\"\n",
            settings.image
        );
        let mut build = image.docker(&["build", "--quiet", "--tag", &image.name, "-"]);
        let mut build = build
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = build.stdin.take().unwrap();
        stdin.write_all(dockerfile.as_bytes()).unwrap();
        drop(stdin);
        let status = build.wait().unwrap();
        assert!(status.success(), "docker build: {status}");
        image
    }

    /// MiB a second of the same program through `docker run`, which attaches to it.
    fn by_the_engines_cli(&self) -> f64 {
        let print = format!("mock --rebuild | head -c {GIBIBYTE}");
        let begun = Instant::now();
        let run = ["run", "--rm", "--network", "none", "--entrypoint", "sh"];
        let status = self
            .docker(&run)
            .args([&self.name, "-c", &print])
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "docker run: {status}");
        mebibytes(GIBIBYTE) / begun.elapsed().as_secs_f64()
    }

    fn docker(&self, args: &[&str]) -> Command {
        let mut docker = Command::new("docker");
        docker.args(["--host", &self.engine]).args(args);
        docker
    }
}

impl Drop for PrintingImage {
    fn drop(&mut self) {
        let removed = self
            .docker(&["rmi", "--force", &self.name])
            .stdout(Stdio::null())
            .status();
        if !removed.is_ok_and(|status| status.success()) {
            eprintln!("the image {} stays", self.name);
        }
    }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The fixture says in its log when it said each line; sandbox and readers have one clock.
async fn readers() -> Vec<Row> {
    let pipeline = Pipeline::start(PipelineOptions {
        sandboxes: 1,
        ..PipelineOptions::default()
    })
    .await;
    let build = submit(&pipeline, "chatty").await;
    let url = format!("{}/api/v1/builds/{build}/log?follow=true", pipeline.cli.url);
    let mut reading = JoinSet::new();
    for _ in 0..READERS {
        reading.spawn(read(url.clone()));
    }
    let mut latencies = Vec::new();
    while let Some(read) = reading.join_next().await {
        let mut of_one = read.unwrap();
        assert_eq!(of_one.len(), 200, "each reader gets each line");
        latencies.append(&mut of_one);
    }
    pipeline.stop().await;
    vec![
        Row::new(
            "log line -> 200 readers, p50",
            percentile(&mut latencies, 0.5),
            "ms",
        ),
        Row::new(
            "log line -> 200 readers, p99",
            percentile(&mut latencies, 0.99),
            "ms",
        )
        .aim("<= 1000 ms"),
    ]
}

/// Milliseconds from each line to its arrival.
async fn read(url: String) -> Vec<f64> {
    let answer = http_client().get(url).send().await.unwrap();
    let mut parts = answer.error_for_status().unwrap().bytes_stream();
    let (mut pending, mut latencies) = (Vec::new(), Vec::new());
    while let Some(part) = parts.next().await {
        let now = Utc::now().timestamp_nanos_opt().unwrap();
        pending.extend_from_slice(&part.unwrap());
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            if let Some(said) = line
                .strip_prefix("at ")
                .and_then(|at| at.trim().parse::<i64>().ok())
            {
                latencies.push((now - said) as f64 / 1e6);
            }
        }
    }
    latencies
}

async fn submit(pipeline: &Pipeline, fixture: &str) -> i64 {
    let chroot = pipeline.settings.chroot.as_str();
    let limits = ["--chroot", chroot, "--memory", "512", "--timeout", "1800"];
    let source = Fixture::named(fixture);
    pipeline.cli.submit(source.path(), &limits).await
}
