//! `make bench`: medians of several runs, and ratios to a floor measured in the same run.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unreachable,
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

use clap::Parser;
use millrace_tests::{Pipeline, PipelineOptions, sized_by};
use stats::Row;

/// How often each measurement is repeated; `MILLRACE_BENCH_RUNS`.
fn runs() -> usize {
    sized_by("MILLRACE_BENCH_RUNS", 5)
}

/// What can be measured, in the order in which it is.
const MEASUREMENTS: [&str; 9] = [
    "memory",
    "idle",
    "claim",
    "throughput",
    "overhead",
    "logs",
    "list",
    "start",
    "relay",
];

/// Measures the pipeline on this machine and prints a table. `MILLRACE_BENCH_RUNS` sets how often each measurement is
/// repeated (5).
#[derive(Debug, Parser)]
#[command(name = "millrace-bench")]
struct Args {
    /// What to measure; everything where nothing is named.
    #[arg(value_parser = MEASUREMENTS)]
    only: Vec<String>,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let runs = runs();
    let wanted = |name: &&str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let names: Vec<&str> = MEASUREMENTS.into_iter().filter(wanted).collect();
    let mut rows = Vec::new();
    for (at, name) in names.iter().enumerate() {
        eprintln!("measuring {name} ({} of {})", at + 1, names.len());
        rows.extend(measure(name, runs).await);
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

async fn measure(name: &str, runs: usize) -> Vec<Row> {
    match name {
        "memory" => memory().await,
        "idle" => idle::measure().await,
        "claim" => claim::measure(runs).await,
        "throughput" => throughput::measure(runs).await,
        "overhead" => overhead::measure(runs).await,
        "logs" => logs::measure(runs).await,
        "list" => list::measure(runs).await,
        "start" => start::measure(runs).await,
        "relay" => relay::measure().await,
        _ => unreachable!("the command line takes no other name than {MEASUREMENTS:?}"),
    }
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
