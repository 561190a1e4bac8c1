//! While RabbitMQ is stopped, frozen or under an alarm everything that people do goes on, and afterwards the work
//! resumes by itself: nothing lost, nothing doubled, no attempt used up, and new work does not stand behind the backlog.
//!
//! Three environment variables set the size: `MILLRACE_TEST_AWAY_SUBMISSIONS`, `MILLRACE_TEST_AWAY_SECONDS`, and
//! `MILLRACE_TEST_AWAY_P99_MS`, which the answers to submissions must keep to.

#![expect(clippy::unwrap_used, reason = "a test fails on the spot")]

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use millrace_tests::{
    Pipeline, PipelineOptions, Sandbox, Times, http_client, sized_by, until, until_within,
};
use reqwest::{Client, Method};
use serde_json::{Value, json};

/// One submission of so many is cancelled at once.
const CANCELLED: usize = 10;
/// How long the work after the outage may take.
const LONG: Duration = Duration::from_mins(5);
/// The status tells of the outage so soon: a confirm is waited for 5 s.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// How far off the moment may be that it tells: to freeze or stop a container takes its time.
const OFF_BY: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy)]
enum Outage {
    Stopped,
    Frozen,
    Alarm,
}

impl Outage {
    fn begin(self, pipeline: &Pipeline) {
        match self {
            Self::Stopped => pipeline.broker().stop(),
            Self::Frozen => pipeline.broker().pause(),
            Self::Alarm => pipeline.broker().raise_alarm(),
        }
    }

    async fn end(self, pipeline: &Pipeline) {
        match self {
            Self::Stopped => pipeline.broker().start_again().await,
            Self::Frozen => pipeline.broker().unpause(),
            Self::Alarm => pipeline.broker().end_alarm(),
        }
    }
}

#[tokio::test]
async fn a_stopped_broker_stops_nobody() {
    live_through(Outage::Stopped).await;
}

#[tokio::test]
async fn a_frozen_broker_stops_nobody() {
    live_through(Outage::Frozen).await;
}

#[tokio::test]
async fn a_broker_under_an_alarm_stops_nobody() {
    live_through(Outage::Alarm).await;
}

/// Submits, and now and then cancels.
struct Load<'a> {
    pipeline: &'a Pipeline,
    client: Client,
}

#[derive(Debug, Default)]
struct Made {
    submissions: Times,
    cancels: Times,
    cancelled: usize,
}

impl Load<'_> {
    async fn submit(&self, more: &Value) -> (i64, Duration) {
        let mut body = json!({"sources": ["https://example.org/hello-1-1.src.rpm"], "chroots": [self.pipeline.settings.chroot]});
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        let path = "/api/v1/builds";
        let answer = self
            .pipeline
            .call(&self.client, Method::POST, path, Some(&body));
        let answer = answer.await;
        assert_eq!(answer.status, 201, "{}", answer.json());
        (answer.json()["id"].as_i64().unwrap(), answer.took)
    }

    async fn cancel(&self, build: i64) -> Duration {
        let path = format!("/api/v1/builds/{build}/cancel");
        let answer = self.pipeline.call(&self.client, Method::POST, &path, None);
        let answer = answer.await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        assert_eq!(answer.json()["state"], "cancelled");
        answer.took
    }

    /// So many submissions in that time, each at its moment, whether or not the ones before were answered.
    async fn flow(&self, count: usize, over: Duration) -> Made {
        let mut made = Made::default();
        let mut calls = FuturesUnordered::new();
        let pace = over / u32::try_from(count).unwrap();
        let mut moments = tokio::time::interval(pace);
        let mut begun = 0;
        while begun < count || !calls.is_empty() {
            tokio::select! {
                _ = moments.tick(), if begun < count => {
                    calls.push(self.one(begun.is_multiple_of(CANCELLED)));
                    begun += 1;
                }
                Some((submitted, cancelled)) = calls.next() => {
                    made.submissions.add(submitted);
                    if let Some(took) = cancelled {
                        made.cancels.add(took);
                        made.cancelled += 1;
                    }
                }
            }
        }
        made
    }

    async fn one(&self, is_cancelled: bool) -> (Duration, Option<Duration>) {
        let (build, submitted) = self.submit(&json!({})).await;
        let cancelled = if is_cancelled {
            Some(self.cancel(build).await)
        } else {
            None
        };
        (submitted, cancelled)
    }

    /// What others do meanwhile, once in half a second; the time at which the status told of the outage.
    async fn look(&self, reads: &mut Times, told: &mut Option<(Instant, DateTime<Utc>)>) {
        let mut moments = tokio::time::interval(Duration::from_millis(500));
        loop {
            moments.tick().await;
            for path in [
                "/api/v1/builds?limit=50",
                "/waiting_builds/?limit=100",
                "/api/v1/builds/1/log",
            ] {
                let answer = self
                    .pipeline
                    .call(&self.client, Method::GET, path, None)
                    .await;
                assert_eq!(answer.status, 200, "{path}");
                assert!(!answer.body.is_empty(), "{path}");
                reads.add(answer.took);
            }
            let broker = self.status().await["broker"].clone();
            if told.is_none() && broker["up"] == false {
                println!("the status says: {}", broker["reason"]);
                let since = broker["since"].as_str().unwrap();
                *told = Some((Instant::now(), since.parse().unwrap()));
            }
        }
    }

    async fn status(&self) -> Value {
        let path = "/api/v1/status";
        let answer = self.pipeline.call(&self.client, Method::GET, path, None);
        answer.await.json()
    }
}

async fn live_through(outage: Outage) {
    let count = sized_by("MILLRACE_TEST_AWAY_SUBMISSIONS", 300);
    let seconds = Duration::from_secs(sized_by("MILLRACE_TEST_AWAY_SECONDS", 20));
    let pipeline = Pipeline::start(PipelineOptions {
        sandbox: Sandbox::Noop,
        sandboxes: 8,
        private_broker: true,
        builder_env: vec![("MILLRACE_NOOP_MILLIS".to_owned(), "200".to_owned())],
        ..PipelineOptions::default()
    })
    .await;
    let load = Load {
        pipeline: &pipeline,
        client: http_client(),
    };
    add_owner(&pipeline, "guest").await;
    let (first, _) = load.submit(&json!({})).await;
    pipeline.ended(first, LONG).await;

    outage.begin(&pipeline);
    let (began, began_at) = (Instant::now(), Utc::now());
    let (mut reads, mut told) = (Times::default(), None);
    let made = tokio::select! {
        made = load.flow(count, seconds) => made,
        () = load.look(&mut reads, &mut told) => unreachable!("looking has no end"),
    };
    println!("{outage:?}, {count} submissions in {seconds:?}");
    println!("submissions: {}", made.submissions);
    println!("cancels: {}", made.cancels);
    println!("lists, legacy list, log: {reads}");
    assert_told(told, began, began_at);
    assert_waits_for_the_broker(&pipeline).await;

    outage.end(&pipeline).await;
    let back = Instant::now();
    until("the status says that the broker is back", async || {
        (load.status().await["broker"]["up"] == true).then_some(())
    })
    .await;
    println!("back {:.1?} after the broker", back.elapsed());
    assert_new_work_is_not_starved(&load, count).await;
    drained(&load).await;
    println!("drained {:.1?} after the broker was back", back.elapsed());

    let limit = Duration::from_millis(sized_by("MILLRACE_TEST_AWAY_P99_MS", 1000));
    let p99 = made.submissions.percentile(99);
    assert!(
        p99 < limit,
        "p99 of submissions is {p99:?}, more than {limit:?}"
    );
    assert_each_once(&pipeline, count + 3, made.cancelled).await;
    until("all queues are empty", async || {
        (pipeline.broker().messages() == 0).then_some(())
    })
    .await;
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

fn assert_told(told: Option<(Instant, DateTime<Utc>)>, began: Instant, began_at: DateTime<Utc>) {
    let (heard, since) = told.unwrap();
    let after = heard - began;
    println!("the status told of it after {after:.1?}, since {since}");
    assert!(after < TOLD_WITHIN, "told after {after:?}");
    let off = (since - began_at).abs().to_std().unwrap();
    assert!(off < OFF_BY, "it began at {began_at}, told was {since}");
}

/// A task that waits says for what.
async fn assert_waits_for_the_broker(pipeline: &Pipeline) {
    let builds = pipeline.get("/api/v1/builds?limit=100").await;
    let reasons: Vec<&Value> = builds["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|build| &build["tasks"][0]["wait"]["reason"])
        .collect();
    assert!(reasons.contains(&&json!("broker_away")), "{reasons:?}");
}

/// A build of higher priority, and one of an owner without any other, are done while most of the backlog waits.
async fn assert_new_work_is_not_starved(load: &Load<'_>, backlog: usize) {
    let (urgent, _) = load.submit(&json!({"priority": "high"})).await;
    let (others, _) = load.submit(&json!({"project": "guest/main"})).await;
    let submitted = Instant::now();
    for build in [urgent, others] {
        let ended = load.pipeline.ended(build, LONG).await;
        assert_eq!(ended["state"], "succeeded", "{ended:#}");
    }
    let waiting = load.status().await["tasks"]["waiting"].as_u64().unwrap();
    println!(
        "new work was done after {:.1?}; {waiting} of {backlog} still waited",
        submitted.elapsed()
    );
    assert!(
        waiting > backlog as u64 / 2,
        "new work stood in line: {waiting} of {backlog} wait"
    );
}

async fn drained(load: &Load<'_>) {
    until_within(LONG, "everything has ended", async || {
        let tasks = &load.status().await["tasks"];
        let states = ["waiting", "queued", "running"];
        states.iter().all(|state| tasks[state] == 0).then_some(())
    })
    .await;
}

/// Each build that was not cancelled succeeded with its only claimed attempt.
async fn assert_each_once(pipeline: &Pipeline, builds: usize, cancelled: usize) {
    let expected = |number: usize| i64::try_from(number).unwrap();
    for (what, number) in [
        ("select count(*) from builds", builds),
        (
            "select count(*) from tasks where state = 'succeeded'",
            builds - cancelled,
        ),
        (
            "select count(*) from tasks where state = 'cancelled'",
            cancelled,
        ),
        (
            "select count(*) from attempts where claimed_at is not null",
            builds - cancelled,
        ),
        (
            "select count(*) from attempts where state = 'finished'",
            builds - cancelled,
        ),
        (
            "select count(distinct task_id) from attempts where state = 'finished'",
            builds - cancelled,
        ),
        ("select count(*) from tasks where attempts_counted > 0", 0),
        (
            "select count(*) from attempts where state in ('offered', 'claimed')",
            0,
        ),
        ("select count(*) from outbox", 0),
        ("select count(*) from parked_messages", 0),
    ] {
        assert_eq!(pipeline.count(what).await, expected(number), "{what}");
    }
}

async fn add_owner(pipeline: &Pipeline, name: &str) {
    let sql = format!(
        "with o as (insert into accounts (name) values ('{name}') returning id)
         insert into projects (account_id, name) select id, 'main' from o"
    );
    assert_eq!(pipeline.inspector().execute(&sql).await.unwrap(), 1);
}
