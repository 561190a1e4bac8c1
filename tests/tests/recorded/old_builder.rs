//! A builder of a release works for the present frontend: its calls, with the ids and tokens of now.

use millrace_tests::recorded::{Body, Exchange, Recording, Tap, covers, filler};
use millrace_tests::{Client, ENROL_TOKEN, Fixture, Pipeline, PipelineOptions, http_client, until};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{BUILDS, RELEASES};

#[tokio::test]
async fn a_builder_of_a_release_works_for_the_present_frontend() {
    for release in RELEASES {
        for (name, fixture) in BUILDS {
            let recording = Recording::read(release, name);
            Replay::start(recording, fixture)
                .await
                .run(&format!("{release} {name}"))
                .await;
        }
    }
}

struct Replay {
    pipeline: Pipeline,
    client: Client,
    tap: Tap,
    recording: Recording,
    build: i64,
    token: String,
    is_reported: bool,
    uploads: usize,
}

impl Replay {
    async fn start(recording: Recording, fixture: &str) -> Self {
        let pipeline = Pipeline::start(PipelineOptions {
            builders: 0,
            ..PipelineOptions::default()
        })
        .await;
        let tap = Tap::open(&pipeline.broker_url()).await;
        let client = Client::of(&pipeline);
        let source = client.upload(&Fixture::named(fixture)).await;
        let build = client.submit(&source, "recorded").await;
        Self {
            pipeline,
            client,
            tap,
            recording: with_filled_files(&recording),
            build,
            token: ENROL_TOKEN.to_owned(),
            is_reported: false,
            uploads: 0,
        }
    }

    async fn run(mut self, case: &str) {
        for at in 0..self.recording.exchanges.len() {
            let call = self.recording.exchanges[at].clone();
            self.step(case, call).await;
        }
        let shown = self.client.show(self.build).await.unwrap();
        let task = &shown["tasks"][0];
        assert_eq!(
            task["outcome"]["kind"],
            self.recording.outcome.as_str(),
            "{case}: {shown:#}"
        );
        let files = "select count(*)::text from result_files";
        let files = self.pipeline.shared_database().fetch_text(files).await;
        assert_eq!(files, Some(self.uploads.to_string()), "{case}");
        self.pipeline.stop().await;
    }

    async fn step(&mut self, case: &str, call: Exchange) {
        let is_heartbeat = call.path.ends_with("/heartbeat");
        let mut call = call;
        if call.path.ends_with("/claim") {
            self.take_order().await;
            // With the ids of now.
            call = self.recording.calls("/claim").next().unwrap().clone();
        } else if is_heartbeat && says(&call.body, "\"phase\":\"reported\"") && !self.is_reported {
            self.is_reported = true;
            self.cancel_as_it_was().await;
            let report = self.recording.messages("millrace.events").next().unwrap();
            self.tap.publish(report).await;
        }
        let what = format!(
            "{case}: {} {} is answered as it was",
            call.method, call.path
        );
        let answer = until(&what, async || self.answer(&call, is_heartbeat).await).await;
        if call.path.ends_with("/enrol") {
            answer["token"]
                .as_str()
                .unwrap()
                .clone_into(&mut self.token);
        } else if call.path.ends_with("/claim") {
            let lease = answer["lease_token"].as_str().unwrap().to_owned();
            self.recording = self.recording.with(&[("recorded-lease".to_owned(), lease)]);
        } else if call.path.contains("/files/") {
            self.uploads += 1;
        }
    }

    /// Waits for the order, and puts its ids in the place of the recorded ones.
    async fn take_order(&mut self) {
        let order = self.tap.next_of("millrace.jobs").await.body;
        let then = self
            .recording
            .messages("millrace.jobs")
            .next()
            .unwrap()
            .body
            .clone();
        assert!(covers(&order, &then), "an order lacks something: {order:#}");
        let word = |of: &Value, path: &str| of.pointer(path).unwrap().as_str().unwrap().to_owned();
        let words = ["/body/attempt_id", "/body/sources/0/origin/sha256"];
        let words = words.map(|path| (word(&then, path), word(&order, path)));
        self.recording = self.recording.with(&words);
        for message in &mut self.recording.messages {
            if message.exchange == "millrace.events" {
                message.body["body"]["task_id"] = order["body"]["task_id"].clone();
            }
        }
    }

    /// Where the build was cancelled it is cancelled now, and the builder is told so in words that it knows.
    async fn cancel_as_it_was(&self) {
        let Some(then) = self.recording.messages("millrace.control").next() else {
            return;
        };
        assert_eq!(self.client.cancel(self.build).await, 200);
        let hint = self.tap.next_of("millrace.control").await;
        assert_eq!(hint.routing_key, then.routing_key);
        assert_eq!(hint.body["body"], then.body["body"]);
        assert!(
            covers(&hint.body, &then.body),
            "a hint lacks something: {:#}",
            hint.body
        );
    }

    /// The answer, once it is the recorded one: a heartbeat's verdict may come a little later.
    async fn answer(&self, call: &Exchange, patient: bool) -> Option<Value> {
        let url = format!("{}{}", self.pipeline.cli.url, call.path);
        let mut request = http_client()
            .request(call.method.parse().unwrap(), url)
            .bearer_auth(&self.token);
        if let Some(lease) = &call.lease {
            request = request.header("millrace-lease", lease);
        }
        if let Some(sha256) = &call.sha256 {
            request = request.header("millrace-sha256", sha256);
        }
        let request = match &call.body {
            Body::Json(json) => request.json(json),
            Body::Bytes(size) => request.body(filler(*size)),
        };
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap_or_default();
        assert_eq!(status, call.status, "{} {}: {text}", call.method, call.path);
        let now = serde_json::from_str(&text).unwrap_or(Value::Null);
        let Body::Json(then) = &call.answer else {
            return Some(now);
        };
        assert!(
            covers(&now, then),
            "{}: {now:#} lacks something of {then:#}",
            call.path
        );
        let verdict = |answer: &Value| answer.pointer("/attempts/0/verdict").cloned();
        (!patient || verdict(&now) == verdict(then)).then_some(now)
    }
}

fn says(body: &Body, text: &str) -> bool {
    matches!(body, Body::Json(json) if json.to_string().contains(text))
}

/// The bytes of files were not kept: others of the same size take their place, with their own digest.
fn with_filled_files(recording: &Recording) -> Recording {
    let digests = recording
        .calls("/files/")
        .filter_map(|call| match (&call.sha256, &call.body) {
            (Some(digest), Body::Bytes(size)) => {
                Some((digest.clone(), hex::encode(Sha256::digest(filler(*size)))))
            }
            _ => None,
        });
    recording.with(&digests.collect::<Vec<_>>())
}
