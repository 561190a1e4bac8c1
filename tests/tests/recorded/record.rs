//! Records the release whose programs are under test; see CONTRIBUTING.md.

use std::time::Duration;

use millrace_tests::recorded::{Body, Proxy, Recording, Tap};
use millrace_tests::{BuilderOptions, Client, Fixture, Pipeline, PipelineOptions, until_within};

use crate::BUILDS;

const ENDED: Duration = Duration::from_mins(5);

#[tokio::test]
#[ignore = "records a release: MILLRACE_TEST_RECORD is its version, MILLRACE_TEST_BIN has its programs"]
async fn record_a_release() {
    let version = std::env::var("MILLRACE_TEST_RECORD").unwrap();
    for (name, fixture) in BUILDS {
        record(name, fixture).await.write(&version, name);
    }
}

async fn record(name: &str, fixture: &str) -> Recording {
    let mut pipeline = Pipeline::start(PipelineOptions {
        builders: 0,
        ..PipelineOptions::default()
    })
    .await;
    let tap = Tap::open(&pipeline.broker_url()).await;
    let proxy = Proxy::start(&pipeline.cli.url).await;
    let env = [
        ("MILLRACE_FRONTEND_URL", proxy.url.as_str()),
        ("MILLRACE_BUILDER_NAME", "recorded"),
    ];
    pipeline.add_builder(&BuilderOptions {
        env: env
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
    });
    pipeline.wait_for_builders(1).await;
    let client = Client::of(&pipeline);
    let source = client.upload(&Fixture::named(fixture)).await;
    let build = client.submit(&source, name).await;
    if name == "cancelled" {
        heard(&proxy, "\"phase\":\"building\"").await;
        client.cancel(build).await;
    }
    heard(&proxy, "\"verdict\":\"accepted\"").await;
    let shown = client.show(build).await.unwrap();
    let recording = Recording {
        outcome: shown["tasks"][0]["outcome"]["kind"]
            .as_str()
            .unwrap()
            .to_owned(),
        exchanges: proxy.exchanges(),
        messages: tap.take().await,
    };
    pipeline.stop().await;
    recording
}

/// Waits until a heartbeat or its answer held a text.
async fn heard(proxy: &Proxy, text: &str) {
    until_within(ENDED, &format!("a heartbeat says {text}"), async || {
        let exchanges = proxy.exchanges();
        let holds =
            |body: &Body| matches!(body, Body::Json(json) if json.to_string().contains(text));
        exchanges
            .iter()
            .any(|it| holds(&it.body) || holds(&it.answer))
            .then_some(())
    })
    .await;
}
