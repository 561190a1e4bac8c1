//! A frontend of a release has the present builder work: it answers as it did, and reads what it read.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use millrace_tests::recorded::{Body, Exchange, Recording, Tap, covers};
use millrace_tests::{
    BuilderOptions, Fixture, Pipeline, PipelineOptions, Program, sandboxes_of, until,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

use crate::{BUILDS, RELEASES};

#[tokio::test]
async fn the_present_builder_works_for_a_frontend_of_a_release() {
    for release in RELEASES {
        for (name, fixture) in BUILDS {
            replay(release, name, fixture).await;
        }
    }
}

/// A frontend that answers from a recording.
#[derive(Clone)]
struct Old {
    recording: Arc<Recording>,
    source: Bytes,
    heard: Arc<Mutex<Heard>>,
}

/// What the builder said.
#[derive(Debug, Default)]
struct Heard {
    builder: String,
    files: usize,
    is_building: bool,
    accepted: bool,
}

async fn replay(release: &str, name: &str, fixture: &str) {
    let case = format!("{release} {name}");
    let mut pipeline = Pipeline::start(PipelineOptions {
        builders: 0,
        ..PipelineOptions::default()
    })
    .await;
    let tap = Tap::open(&pipeline.broker_url()).await;
    let recording = Recording::read(release, name);
    let order = recording.messages("millrace.jobs").next().unwrap();
    let jobs = format!("millrace.jobs.{}", order.routing_key);
    tap.has_queue(&jobs).await;
    // It has made the exchanges and queues; from here on the old one stands in its place.
    pipeline.process(Program::Frontend).kill();
    let source = std::fs::read(&Fixture::named(fixture).srpm).unwrap();
    let recording = of_now(&recording, &pipeline, &source);
    let old = Old {
        recording: Arc::new(recording),
        source: source.into(),
        heard: Arc::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(old.clone());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    pipeline.add_builder(&BuilderOptions {
        env: vec![("MILLRACE_FRONTEND_URL".to_owned(), url)],
    });

    let order = old.recording.messages("millrace.jobs").next().unwrap();
    tap.publish(order).await;
    if let Some(hint) = old.recording.messages("millrace.control").next() {
        until("the builder builds", async || {
            old.heard.lock().unwrap().is_building.then_some(())
        })
        .await;
        let mut hint = hint.clone();
        hint.routing_key = format!("builder.{}", old.heard.lock().unwrap().builder);
        tap.publish(&hint).await;
    }
    let report = tap.next_of("millrace.events").await.body;
    let then = &old
        .recording
        .messages("millrace.events")
        .next()
        .unwrap()
        .body;
    assert_eq!(
        report["body"]["outcome"]["kind"],
        old.recording.outcome.as_str(),
        "{case}: {report:#}"
    );
    assert!(
        covers(&report, then),
        "{case}: {report:#} lacks something of {then:#}"
    );
    until(
        &format!("{case}: the builder has forgotten the attempt"),
        async || {
            let heard = old.heard.lock().unwrap();
            let spool = pipeline
                .spool()
                .join(format!("builder-{}/attempts", heard.builder));
            let is_empty = std::fs::read_dir(spool).unwrap().next().is_none();
            (heard.accepted && is_empty && sandboxes_of(&heard.builder).is_empty()).then_some(())
        },
    )
    .await;
    let uploaded = report["body"]["packages"][0]["files"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(old.heard.lock().unwrap().files, uploaded, "{case}");
    serving.abort();
    pipeline.stop().await;
}

/// The recording with the source and the chroot of now.
fn of_now(recording: &Recording, pipeline: &Pipeline, source: &[u8]) -> Recording {
    let mut recording = recording.clone();
    let settings = &pipeline.settings;
    for message in &mut recording.messages {
        if message.exchange == "millrace.jobs" {
            let job = &mut message.body["body"];
            job["sources"][0]["size"] = source.len().into();
            job["sources"][0]["origin"]["sha256"] = hex::encode(Sha256::digest(source)).into();
            job["chroot"] = json!({ "name": settings.chroot, "image": settings.image, "mock_root": settings.mock_root });
        }
    }
    recording
}

async fn answer(State(old): State<Old>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let body = to_bytes(request.into_body(), 64 << 20).await.unwrap();
    let part = [
        "/enrol",
        "/claim",
        "/heartbeat",
        "/log",
        "/files/",
        "/sources/",
    ]
    .into_iter()
    .find(|part| path.contains(part));
    let recorded = part.and_then(|part| old.recording.calls(part).next().cloned());
    let Some(call) = recorded else {
        return (
            StatusCode::NOT_FOUND,
            format!("the release knows no {path}"),
        )
            .into_response();
    };
    let said: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    match part.unwrap_or_default() {
        "/enrol" => said["builder_id"]
            .as_str()
            .unwrap()
            .clone_into(&mut old.heard.lock().unwrap().builder),
        "/heartbeat" => return old.heartbeat(&call, &said),
        "/log" => return in_json(&call, &json!({ "size": offset(&query) + body.len() })),
        "/sources/" => return old.source.into_response(),
        "/files/" => old.heard.lock().unwrap().files += 1,
        _ => {}
    }
    match &call.answer {
        Body::Json(json) => in_json(&call, json),
        Body::Bytes(_) => status(&call).into_response(),
    }
}

impl Old {
    /// A verdict in the release's own form.
    fn verdict(&self, kind: &str) -> Value {
        let answers = self.recording.calls("/heartbeat").map(|call| &call.answer);
        let verdicts = answers.filter_map(|answer| match answer {
            Body::Json(json) => json.pointer("/attempts/0/verdict").cloned(),
            Body::Bytes(_) => None,
        });
        let mut found = verdicts.collect::<Vec<_>>().into_iter();
        let of_kind = found.find(|verdict| verdict["verdict"] == kind);
        of_kind.unwrap_or_else(|| panic!("the release was not recorded saying {kind}"))
    }

    /// The recorded answer, with the verdicts that fit what the builder says of each attempt.
    fn heartbeat(&self, call: &Exchange, said: &Value) -> Response {
        let attempts = said["attempts"].as_array().unwrap();
        let verdict = |attempt: &Value| {
            let mut heard = self.heard.lock().unwrap();
            heard.is_building |= attempt["phase"] == "building";
            heard.accepted |= attempt["phase"] == "reported";
            let verdict = match attempt["phase"].as_str() {
                Some("reported") => "accepted",
                _ => "continue",
            };
            json!({ "attempt_id": attempt["attempt_id"], "verdict": self.verdict(verdict) })
        };
        let verdicts: Vec<Value> = attempts.iter().map(verdict).collect();
        let Body::Json(mut answer) = call.answer.clone() else {
            panic!("a heartbeat was answered without JSON");
        };
        answer["attempts"] = verdicts.into();
        in_json(call, &answer)
    }
}

fn offset(query: &str) -> usize {
    query.trim_start_matches("offset=").parse().unwrap()
}

fn status(call: &Exchange) -> StatusCode {
    StatusCode::from_u16(call.status).unwrap()
}

fn in_json(call: &Exchange, json: &Value) -> Response {
    (
        status(call),
        [(CONTENT_TYPE, "application/json")],
        json.to_string(),
    )
        .into_response()
}
