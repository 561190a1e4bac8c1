//! `make bench`: medians of several runs, and ratios to a floor measured in the same run.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a measuring tool: it fails on the spot and prints a table"
)]

mod claim;
mod floor;
mod idle;
mod list;
mod logs;
mod overhead;
mod relay;
mod start;
mod stats;
mod throughput;

use millrace_tests::{Pipeline, PipelineOptions};
use stats::Row;

/// How often each measurement is repeated; `MILLRACE_BENCH_RUNS`.
fn runs() -> usize {
    std::env::var("MILLRACE_BENCH_RUNS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(5)
}

#[tokio::main]
async fn main() {
    let runs = runs();
    let only: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|o| o == name);
    let mut rows = Vec::new();
    if wanted("memory") {
        rows.extend(memory().await);
    }
    if wanted("idle") {
        rows.extend(idle::measure().await);
    }
    if wanted("claim") {
        rows.extend(claim::measure(runs).await);
    }
    if wanted("throughput") {
        rows.extend(throughput::measure(runs).await);
    }
    if wanted("overhead") {
        rows.extend(overhead::measure(runs).await);
    }
    if wanted("logs") {
        rows.extend(logs::measure(runs).await);
    }
    if wanted("list") {
        rows.extend(list::measure(runs).await);
    }
    if wanted("start") {
        rows.extend(start::measure(runs).await);
    }
    if wanted("relay") {
        rows.extend(relay::measure().await);
    }
    println!(
        "\nmedians of {runs} runs; throughput and claims with no-op sandboxes (a stand-in that succeeds at once);\n\
         PostgreSQL does not sync, RabbitMQ does; spool and results lie in {}\n",
        std::env::temp_dir().display()
    );
    println!(
        "{:<58} {:>12} {:>12} {:>7}  aim",
        "measure", "value", "floor", "ratio"
    );
    rows.iter().for_each(Row::print);
}

async fn memory() -> Vec<Row> {
    let pipeline = Pipeline::start(PipelineOptions::default()).await;
    let mib = |kib: u64| kib as f64 / 1024.0;
    let frontend = mib(pipeline.frontends[0].resident_kib());
    let builder = mib(pipeline.builders[0].resident_kib());
    pipeline.stop().await;
    vec![
        Row::new("resident memory of an idle frontend", frontend, "MiB").aim("<= 40 MiB"),
        Row::new("resident memory of an idle builder", builder, "MiB").aim("<= 40 MiB"),
    ]
}
