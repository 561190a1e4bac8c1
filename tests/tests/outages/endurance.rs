//! What only shows in the long run: a build that outlasts the broker's acknowledgement timeout, and a broker that is
//! restarted again and again.
//!
//! `MILLRACE_TEST_RESTARTS` sets how often it is restarted.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails on the spot"
)]

use std::time::{Duration, Instant};

use millrace_bus::{Bus, BusConfig, JobConsumer, JobRoute, Outgoing, Topology};
use millrace_domain::MemoryClasses;
use millrace_tests::{
    Client, Pipeline, PipelineOptions, Process, Sandbox, http_client, sized_by, until, until_within,
};
use serde_json::json;
use tokio::sync::mpsc;
use uuid::Uuid;

const LONG: Duration = Duration::from_mins(3);
/// How far the resident memory of a process may grow over all restarts but the first two, in KiB.
const MAX_GROWTH: u64 = 8 * 1024;
/// A restart after which memory is looked at first: by then everything has been replaced once.
const SETTLED: usize = 2;
/// Builds in each round.
const BUILDS: usize = 10;

async fn submit(pipeline: &Pipeline) -> i64 {
    let body = json!({"sources": ["https://example.org/hello-1-1.src.rpm"], "chroots": [pipeline.settings.chroot]});
    pipeline.submit_json(&http_client(), &body).await
}

#[tokio::test]
async fn a_build_longer_than_the_acknowledgement_timeout_is_delivered_once_and_succeeds() {
    let pipeline = Pipeline::start(PipelineOptions {
        sandbox: Sandbox::Noop,
        private_broker: true,
        broker_conf: "[{rabbit, [{consumer_timeout, 5000}, {channel_tick_interval, 1000}]}].",
        builder_env: vec![("MILLRACE_NOOP_MILLIS".to_owned(), "30000".to_owned())],
        ..PipelineOptions::default()
    })
    .await;
    let build = submit(&pipeline).await;
    let began = Instant::now();
    Client::of(&pipeline).reached(build, "running").await;
    // What was logged while broker and queues were new is not of interest.
    let before = pipeline.builders[0].log().len();
    // What a consumer that keeps its delivery meets meanwhile: the timeout is real.
    a_kept_delivery_is_taken_away(&pipeline).await;
    println!("a kept delivery came again after {:?}", began.elapsed());
    let ended = pipeline.ended(build, LONG).await;
    assert!(
        began.elapsed() > Duration::from_secs(25),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    assert_eq!(ended["tasks"][0]["attempts"].as_array().unwrap().len(), 1);
    let log = pipeline.builders[0].log().split_off(before);
    assert!(
        !log.contains("no jobs from this queue"),
        "a channel was closed: {log}"
    );
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

/// Keeps an order of an architecture that no builder has, until it is handed out a second time.
async fn a_kept_delivery_is_taken_away(pipeline: &Pipeline) {
    let classes = MemoryClasses::default();
    let route = JobRoute::new("s390x", &classes.all()[0]);
    let config = BusConfig::new(&pipeline.broker_url(), "keeper").unwrap();
    let bus = Bus::start(config, Topology::frontend(["s390x"], &classes));
    bus.wait_up(LONG).await.unwrap();
    let order = Outgoing {
        route: route.clone().into(),
        message_id: Uuid::now_v7(),
        body: b"kept".to_vec(),
    };
    bus.publisher().publish(order).await.unwrap();
    let (sender, mut deliveries) = mpsc::channel(1);
    let consumer = JobConsumer::spawn(&bus, route.queue(), sender);
    consumer.start().await;
    let kept = deliveries.recv().await.unwrap();
    assert!(!kept.redelivered);
    let again = tokio::time::timeout(LONG, deliveries.recv()).await;
    let again = again.expect("the timeout is enforced").unwrap();
    assert!(again.redelivered);
    assert!(kept.ack().await.is_err(), "its channel is gone");
    again.ack().await.unwrap();
    bus.close().await;
}

#[tokio::test]
async fn a_broker_that_is_restarted_again_and_again_costs_neither_work_nor_memory() {
    let restarts: usize = sized_by("MILLRACE_TEST_RESTARTS", 5);
    let pipeline = Pipeline::start(PipelineOptions {
        sandbox: Sandbox::Noop,
        sandboxes: 8,
        private_broker: true,
        ..PipelineOptions::default()
    })
    .await;
    let mut expected = Vec::new();
    until("all consumers are there", async || {
        expected = pipeline.broker().consumers().await?;
        let has = |queue: &str| expected.iter().any(|name| name.starts_with(queue));
        (has("millrace.events")
            && has("millrace.parked")
            && has("millrace.jobs")
            && has("millrace.control"))
        .then_some(())
    })
    .await;
    let mut builds = work(&pipeline).await;
    let mut settled = None;
    for round in 1..=restarts {
        let began = Instant::now();
        pipeline.broker().restart().await;
        let up = began.elapsed();
        until_within(LONG, "the consumers are back", async || {
            (pipeline.broker().consumers().await? == expected).then_some(())
        })
        .await;
        builds.extend(work(&pipeline).await);
        let memory = resident(&pipeline);
        println!(
            "restart {round}: broker up after {up:.1?}, work done after {:.1?}, {memory:?} KiB",
            began.elapsed()
        );
        if round == SETTLED.min(restarts) {
            settled = Some(memory);
        }
    }
    assert_eq!(
        pipeline.broker().consumers().await.unwrap(),
        expected,
        "none twice"
    );
    let (before, after) = (settled.unwrap(), resident(&pipeline));
    for ((part, before), (_, after)) in before.into_iter().zip(after) {
        let growth = after.saturating_sub(before);
        println!(
            "{part}: {before} KiB after restart {SETTLED}, {after} KiB after restart {restarts}"
        );
        assert!(growth <= MAX_GROWTH, "{part} grew by {growth} KiB");
    }
    assert_each_once(&pipeline, builds.len()).await;
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

/// Some builds from submission to result.
async fn work(pipeline: &Pipeline) -> Vec<i64> {
    let mut builds = Vec::new();
    for _ in 0..BUILDS {
        builds.push(submit(pipeline).await);
    }
    for build in &builds {
        let ended = pipeline.ended(*build, LONG).await;
        assert_eq!(ended["state"], "succeeded", "{ended:#}");
    }
    builds
}

fn resident(pipeline: &Pipeline) -> [(&'static str, u64); 2] {
    let kib = |process: &Process| process.resident_kib();
    [
        ("frontend", kib(&pipeline.frontends[0])),
        ("builder", kib(&pipeline.builders[0])),
    ]
}

async fn assert_each_once(pipeline: &Pipeline, builds: usize) {
    let builds = i64::try_from(builds).unwrap();
    for (what, number) in [
        (
            "select count(*) from tasks where state = 'succeeded'",
            builds,
        ),
        (
            "select count(*) from attempts where claimed_at is not null",
            builds,
        ),
        (
            "select count(distinct task_id) from attempts where state = 'finished'",
            builds,
        ),
        ("select count(*) from tasks where attempts_counted > 0", 0),
        ("select count(*) from parked_messages", 0),
    ] {
        assert_eq!(pipeline.count(what).await, number, "{what}");
    }
}
