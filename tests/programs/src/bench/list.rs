//! The list that pollers of 2012 read, behind 10,000 and 1,000,000 waiting builds, beside a running pipeline. The floor is
//! a file of the same size from the same server.

use std::time::{Duration, Instant};

use millrace_domain::Priority;
use millrace_store::Backlog;
use millrace_tests::{Pipeline, PipelineOptions, Sandbox, http_client, sized_by};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::stats::{Row, median, percentile};

/// A chroot that no builder has, so that its builds wait.
const CHROOT: &str = "fedora-44-s390x";
const BACKLOGS: [(u32, &str); 2] = [(10_000, "<= 10 ms"), (1_000_000, "<= 15 ms")];
/// Requests a second (`MILLRACE_BENCH_RATE`), and for how long.
const RATE: u32 = 200;
const LOOK: Duration = Duration::from_secs(10);
/// Clients that ask without a pause.
const CLIENTS: usize = 8;
const BURST: Duration = Duration::from_secs(3);
/// Builds a second that are submitted and built meanwhile.
const PACE: Duration = Duration::from_millis(200);

/// Runs it. `MILLRACE_BENCH_LISTED` bounds the waiting builds.
pub async fn measure(runs: usize) -> Vec<Row> {
    let most = sized_by("MILLRACE_BENCH_LISTED", u32::MAX);
    let mut rows = Vec::new();
    for (waiting, aim) in BACKLOGS.into_iter().filter(|(waiting, _)| *waiting <= most) {
        rows.extend(behind(waiting, aim, runs).await);
    }
    rows
}

async fn behind(waiting: u32, aim: &'static str, runs: usize) -> Vec<Row> {
    let pipeline = Pipeline::start(PipelineOptions {
        sandbox: Sandbox::Noop,
        more_chroots: vec![CHROOT.to_owned()],
        ..PipelineOptions::default()
    })
    .await;
    let backlog = Backlog {
        tasks: waiting,
        owners: 10,
        chroot: CHROOT,
        needs: &[(2048, "2g")],
        priorities: &[Priority::Normal],
    };
    pipeline.shared_database().add_backlog(&backlog).await;
    let list = format!("{}/waiting_builds/", pipeline.cli.url);
    let file = file_of_same_size(&pipeline, &list).await;
    let load = keep_busy(&pipeline);
    let mut p99 = Vec::new();
    let (mut rates, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        p99.push(percentile(&mut at_a_rate(&list).await, 0.99));
        rates.push(without_a_pause(&list).await);
        floors.push(without_a_pause(&file).await);
    }
    load.abort();
    pipeline.stop().await;
    let name = |what: &str| format!("list of 10 of {waiting} waiting builds, {what}");
    vec![
        Row::new(&name("p99 at a steady rate"), median(&mut p99), "ms").aim(aim),
        Row::new(&name("requests"), median(&mut rates), "/s")
            .floor(median(&mut floors))
            .aim(">= 0.25 of the floor"),
    ]
}

/// An uploaded source is served as it is.
async fn file_of_same_size(pipeline: &Pipeline, list: &str) -> String {
    let client = http_client();
    let listed = client.get(list).send().await.unwrap();
    let bytes = listed.bytes().await.unwrap();
    let post = client
        .post(format!(
            "{}/api/v1/sources?name=list.src.rpm",
            pipeline.cli.url
        ))
        .bearer_auth(&pipeline.cli.token)
        .header("content-length", bytes.len())
        .body(bytes);
    let source: Value = post.send().await.unwrap().json().await.unwrap();
    let body = json!({"sources": [source], "chroots": [CHROOT]});
    let answer = pipeline
        .call(&client, Method::POST, "/api/v1/builds", Some(&body))
        .await;
    answer.json()["sources"][0]["url"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Submits builds that are built, until it is stopped.
fn keep_busy(pipeline: &Pipeline) -> JoinHandle<()> {
    let url = format!("{}/api/v1/builds", pipeline.cli.url);
    let token = pipeline.cli.token.clone();
    let body = json!({"sources": ["https://example.org/hello-1-1.src.rpm"], "chroots": [pipeline.settings.chroot]});
    tokio::spawn(async move {
        let client = http_client();
        loop {
            client
                .post(&url)
                .bearer_auth(&token)
                .json(&body)
                .send()
                .await
                .unwrap();
            tokio::time::sleep(PACE).await;
        }
    })
}

async fn ask(client: &Client, url: &str) -> f64 {
    let began = Instant::now();
    let answer = client.get(url).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{url}");
    answer.bytes().await.unwrap();
    began.elapsed().as_secs_f64() * 1000.0
}

/// Times in ms, at a steady rate, whether or not earlier requests were answered.
async fn at_a_rate(url: &str) -> Vec<f64> {
    let client = http_client();
    let rate = sized_by("MILLRACE_BENCH_RATE", RATE).max(1);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    let mut asked = tokio::task::JoinSet::new();
    let began = Instant::now();
    while began.elapsed() < LOOK {
        ticks.tick().await;
        let (client, url) = (client.clone(), url.to_owned());
        asked.spawn(async move { ask(&client, &url).await });
    }
    asked.join_all().await
}

/// Requests a second of some clients that ask one after the other.
async fn without_a_pause(url: &str) -> f64 {
    let began = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let url = url.to_owned();
        clients.spawn(async move {
            let client = http_client();
            let mut answers = 0_u32;
            while began.elapsed() < BURST {
                ask(&client, &url).await;
                answers += 1;
            }
            answers
        });
    }
    let answers: u32 = clients.join_all().await.into_iter().sum();
    f64::from(answers) / began.elapsed().as_secs_f64()
}
