//! Messages that nobody understands are parked with a reason, and the consumers go on.

use millrace_bus::{Bus, BusConfig, Outgoing, Route, Topology};
use millrace_tests::{Fixture, Pipeline, PipelineOptions, Sandbox, until};
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

fn messages(kind: &str) -> Vec<(&'static str, Vec<u8>)> {
    let envelope = |kind: &str, version: u32| {
        json!({"id": Uuid::now_v7(), "kind": kind, "version": version, "time": "2026-01-01T00:00:00Z", "body": {}})
            .to_string()
            .into_bytes()
    };
    vec![
        ("unparsable", b"\xff{ no json".to_vec()),
        ("unknown kind", envelope("gossip", 1)),
        ("is not supported", envelope(kind, 99)),
        ("invalid", envelope(kind, 1)),
    ]
}

#[tokio::test]
async fn misfits_are_parked_with_their_reason_and_the_consumers_go_on() {
    let pipeline = Pipeline::start(PipelineOptions {
        sandbox: Sandbox::Noop,
        ..PipelineOptions::default()
    })
    .await;
    let bus = Bus::start(
        BusConfig::new(&pipeline.broker_url(), "test").unwrap(),
        Topology::none(),
    );
    bus.wait_up(Duration::from_secs(30)).await.unwrap();
    let arch = pipeline
        .settings
        .chroot
        .rsplit_once('-')
        .unwrap()
        .1
        .to_owned();
    let routes = [
        (
            "job",
            Route::Job {
                key: format!("{arch}.2g"),
            },
            format!("millrace.jobs.{arch}.2g"),
        ),
        (
            "finished",
            Route::AttemptFinished,
            "millrace.events.frontend".to_owned(),
        ),
    ];
    let mut expected = Vec::new();
    for (kind, route, queue) in routes {
        for (reason, body) in messages(kind) {
            let message = Outgoing {
                route: route.clone(),
                message_id: Uuid::now_v7(),
                body,
            };
            // The frontend declares its queues some moments after it answers.
            until("the broker has the message", async || {
                bus.publisher().publish(message.clone()).await.ok()
            })
            .await;
            expected.push((queue.clone(), reason));
        }
    }
    until("all misfits are listed", async || {
        let parked = pipeline.cli.json(&["parked", "list"]).await;
        let items = parked["items"].as_array().cloned().unwrap_or_default();
        expected
            .iter()
            .all(|(queue, reason)| items.iter().any(|m| fits(m, queue, reason)))
            .then_some(())
    })
    .await;
    let hello = Fixture::named("hello");
    let chroot = pipeline.settings.chroot.clone();
    let run = pipeline
        .cli
        .run(&["submit", hello.path(), "--chroot", &chroot, "--wait"])
        .await;
    assert_eq!(run.code, 0, "the consumers go on: {run:?}");
    bus.close().await;
    pipeline.stop().await;
}

fn fits(message: &Value, queue: &str, reason: &str) -> bool {
    message["queue"] == queue
        && message["reason"]
            .as_str()
            .is_some_and(|r| r.contains(reason))
}
