//! Tasks per second through submit → queue → claim → finished accepted.

use std::time::Instant;

use futures_util::StreamExt;
use millrace_tests::{Pipeline, PipelineOptions, Sandbox, http_client, until};

use crate::claim::submit;
use crate::floor;
use crate::stats::{Row, median};

const TASKS: usize = 2000;
const CLIENTS: usize = 16;

/// Runs it with one builder and with eight, and the floor beside them.
pub async fn measure(runs: usize) -> Vec<Row> {
    let mut floors = floor::measure(runs, TASKS).await;
    let floor = median(&mut floors);
    let mut rows = Vec::new();
    for builders in [1, 8] {
        let pipeline = Pipeline::start(PipelineOptions {
            sandbox: Sandbox::Noop,
            builders,
            sandboxes: 16,
            ..PipelineOptions::default()
        })
        .await;
        let mut rates = Vec::new();
        for _ in 0..runs {
            rates.push(one_run(&pipeline).await);
        }
        pipeline.stop().await;
        let name = format!("(b) tasks through the whole path, {builders} builders, no-op");
        let row = Row::new(&name, median(&mut rates), "/s").floor(floor);
        rows.push(if builders == 8 {
            row.aim("ratio >= 0.20")
        } else {
            row
        });
    }
    rows
}

async fn one_run(pipeline: &Pipeline) -> f64 {
    let client = http_client();
    let started = Instant::now();
    let submissions = futures_util::stream::iter(0..TASKS).map(|_| submit(pipeline, &client));
    submissions
        .buffer_unordered(CLIENTS)
        .collect::<Vec<_>>()
        .await;
    until("all tasks have ended", async || {
        is_idle(pipeline).await.then_some(())
    })
    .await;
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let rate = TASKS as f64 / started.elapsed().as_secs_f64();
    rate
}

/// No task is left that has not ended.
async fn is_idle(pipeline: &Pipeline) -> bool {
    let tasks = &pipeline.get("/api/v1/status").await["tasks"];
    ["waiting", "queued", "running"]
        .iter()
        .all(|state| tasks[state] == 0)
}
