//! From submission to result, with a builder that is played by the test.

use std::time::Duration;

use millrace_bus::testing::TestVhost;
use millrace_bus::{
    Bus, BusConfig, Delivery, EVENTS_QUEUE, JobConsumer, JobRoute, Outgoing, Parking, Route,
    Topology,
};
use millrace_chassis::Method;
use millrace_domain::{
    AttemptId, BuilderId, MemoryClasses, Outcome, OutcomeKind, Stage, StageTime, Token,
};
use millrace_wire::{FinishedV1, JobV1, ManifestFile, PackageReport, decode, encode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::support::{ENROL, Frontend, Reply, send};

const PATIENCE: Duration = Duration::from_secs(20);

/// A builder without a sandbox.
struct Builder {
    id: BuilderId,
    token: String,
    bus: Bus,
    deliveries: mpsc::Receiver<Delivery>,
    _consumer: JobConsumer,
}

/// An attempt that it holds.
struct Held {
    job: JobV1,
    lease: String,
}

impl Builder {
    async fn start(frontend: &Frontend, vhost: &TestVhost) -> Self {
        let id = BuilderId::generate();
        let enrol = json!({"builder_id": id, "name": "played", "engine_id": "engine", "engine_budget_mib": 16384,
            "archs": ["x86_64"], "memory_mib": 16384, "sandboxes": 4, "version": "0"});
        let reply = frontend.post_as(ENROL, "/builder/v1/enrol", &enrol).await;
        let token = reply.json()["token"].as_str().unwrap().to_owned();
        let config = BusConfig::new(&vhost.builder_url(), "builder").unwrap();
        let bus = Bus::start(config, Topology::builder(id));
        let (sender, deliveries) = mpsc::channel(4);
        let route = JobRoute::new("x86_64", MemoryClasses::default().of(2048));
        let consumer = JobConsumer::spawn(&bus, route.queue(), sender);
        consumer.start().await;
        let builder = Self {
            id,
            token,
            bus,
            deliveries,
            _consumer: consumer,
        };
        builder.beat(frontend, json!([])).await;
        builder
    }

    async fn beat(&self, frontend: &Frontend, attempts: Value) -> Value {
        let body = json!({"free_mib": 16384, "free_sandboxes": 4, "attempts": attempts});
        let reply = frontend
            .post_as(&self.token, "/builder/v1/heartbeat", &body)
            .await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    async fn verdict(&self, frontend: &Frontend, held: &Held, phase: &str) -> Value {
        let attempt =
            json!({"attempt_id": held.job.attempt_id, "lease_token": held.lease, "phase": phase});
        self.beat(frontend, json!([attempt])).await["attempts"][0]["verdict"].clone()
    }

    async fn receive(&mut self) -> JobV1 {
        let received = tokio::time::timeout(PATIENCE, self.deliveries.recv()).await;
        let delivery = received.expect("a job in time").unwrap();
        let job = decode::<JobV1>(&delivery.body).unwrap().body;
        delivery.ack().await.unwrap();
        job
    }

    async fn claim(&self, frontend: &Frontend, attempt: AttemptId, nonce: &str) -> Reply {
        let body = json!({"attempt_id": attempt, "nonce": nonce});
        frontend
            .post_as(&self.token, "/builder/v1/claim", &body)
            .await
    }

    /// Takes the next job.
    async fn take(&mut self, frontend: &Frontend) -> Held {
        let job = self.receive().await;
        let reply = self.claim(frontend, job.attempt_id, "nonce").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let lease = reply.json()["lease_token"].as_str().unwrap().to_owned();
        Held { job, lease }
    }

    async fn log(&self, frontend: &Frontend, held: &Held, offset: usize, text: &str) -> Reply {
        let path = format!(
            "/builder/v1/attempts/{}/log?offset={offset}",
            held.job.attempt_id
        );
        let request = frontend.request(Method::POST, &path, &self.token);
        let request = request.header("millrace-lease", &held.lease);
        send(request.body(text.to_owned())).await
    }

    async fn upload(&self, frontend: &Frontend, held: &Held, name: &str, text: &str) -> Reply {
        let path = format!(
            "/builder/v1/attempts/{}/files/0/{name}",
            held.job.attempt_id
        );
        let request = frontend
            .request(Method::PUT, &path, &self.token)
            .header("millrace-lease", &held.lease)
            .header("millrace-sha256", digest(text));
        send(request.body(text.to_owned())).await
    }

    async fn report(&self, held: &Held, outcome: Outcome, files: &[(&str, &str)]) {
        self.publish(self.words(held, outcome, files)).await;
    }

    /// The message of a report.
    fn words(&self, held: &Held, outcome: Outcome, files: &[(&str, &str)]) -> Vec<u8> {
        let files = files
            .iter()
            .map(|(name, text)| ManifestFile {
                name: name.parse().unwrap(),
                size: text.len() as u64,
                sha256: digest(text),
            })
            .collect();
        let report = FinishedV1 {
            attempt_id: held.job.attempt_id,
            task_id: held.job.task_id,
            builder_id: self.id,
            lease_token: Token::new(&held.lease),
            outcome: outcome.clone(),
            packages: vec![PackageReport {
                position: 0,
                source: held.job.sources[0].name.clone(),
                outcome,
                files,
            }],
            stages: vec![StageTime {
                name: Stage::Build,
                start: chrono::Utc::now(),
                seconds: Some(1.5),
            }],
            log_size: 0,
            image_digest: Some("sha256:image".to_owned()),
        };
        let body = encode(Uuid::now_v7(), chrono::Utc::now(), &report).unwrap();
        body.to_string().into_bytes()
    }

    async fn publish(&self, body: Vec<u8>) {
        self.bus.wait_up(PATIENCE).await.unwrap();
        let message = Outgoing {
            route: Route::AttemptFinished,
            message_id: Uuid::now_v7(),
            body,
        };
        self.bus.publisher().publish(message).await.unwrap();
    }
}

fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

async fn task(frontend: &Frontend, held: &Held) -> Value {
    let path = format!("/api/v1/tasks/{}", held.job.task_id);
    frontend.get(&path).await.json()
}

async fn until_state(frontend: &Frontend, held: &Held, state: &str) -> Value {
    frontend
        .until(state, async |f| task(f, held).await["state"] == state)
        .await;
    task(frontend, held).await
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one long story")]
async fn a_submission_becomes_a_job_a_log_files_and_a_result() {
    let vhost = TestVhost::create().await;
    let frontend = Frontend::start_on(&vhost).await;
    let mut builder = Builder::start(&frontend, &vhost).await;
    let build = frontend
        .submit(json!({"repositories": ["http://example.org/$basearch/"]}))
        .await;
    let job = builder.receive().await;
    assert_eq!(json!(job.build_id), build["id"]);
    assert_eq!(job.chroot.image, "image-of-debian");
    assert_eq!(
        job.repositories[0].as_str(),
        "http://example.org/$basearch/"
    );

    let first = builder.claim(&frontend, job.attempt_id, "nonce").await;
    let again = builder.claim(&frontend, job.attempt_id, "nonce").await;
    assert_eq!((first.status, again.status), (200, 200), "{}", first.text());
    assert_eq!(first.json(), again.json());
    let other = builder.claim(&frontend, job.attempt_id, "other").await;
    assert_eq!(
        (other.status, &other.json()["reason"]),
        (409, &json!("taken"))
    );
    let lease = first.json()["lease_token"].as_str().unwrap().to_owned();
    let held = Held { job, lease };
    let list = frontend.get("/waiting_builds/").await.json();
    assert_eq!(
        list,
        json!({"builds": []}),
        "a claimed build leaves the legacy list"
    );

    assert_eq!(
        builder.log(&frontend, &held, 0, "one\n").await.json()["size"],
        4
    );
    let repeated = builder.log(&frontend, &held, 0, "one\ntwo\n").await;
    assert_eq!(
        (repeated.status, &repeated.json()["size"]),
        (409, &json!(4))
    );
    assert_eq!(
        builder.log(&frontend, &held, 4, "two\n").await.json()["size"],
        8
    );

    let followed = {
        let url = format!("/api/v1/builds/{}/log?follow=true", build["id"]);
        let request = frontend.request(Method::GET, &url, "");
        tokio::spawn(send(request))
    };
    assert_eq!(
        builder
            .upload(&frontend, &held, "a-1-1.x86_64.rpm", "package")
            .await
            .status,
        204
    );
    assert_eq!(
        builder
            .upload(&frontend, &held, "build.log", "log")
            .await
            .status,
        204
    );
    let invisible = format!("/api/v1/attempts/{}/files/0/build.log", held.job.attempt_id);
    assert_eq!(
        frontend.get(&invisible).await.status,
        404,
        "not accepted yet"
    );
    assert_eq!(
        builder.log(&frontend, &held, 8, "three\n").await.json()["size"],
        14
    );
    assert_eq!(
        builder.verdict(&frontend, &held, "spooled").await,
        json!({"verdict": "continue"})
    );
    let files = [("a-1-1.x86_64.rpm", "package"), ("build.log", "log")];
    builder
        .report(&held, Outcome::new(OutcomeKind::Succeeded, "built"), &files)
        .await;

    let done = until_state(&frontend, &held, "succeeded").await;
    assert_eq!(done["outcome"]["kind"], "succeeded");
    let attempt = &done["attempts"][0];
    assert_eq!(
        (&attempt["builder"], &attempt["state"]),
        (&json!("played"), &json!("finished"))
    );
    assert_eq!(
        (&attempt["stages"][0]["name"], &attempt["log_size"]),
        (&json!("build"), &json!(14))
    );
    assert_eq!(attempt["packages"][0]["files"].as_array().unwrap().len(), 2);
    assert_eq!(followed.await.unwrap().text(), "one\ntwo\nthree\n");
    assert_eq!(
        builder.verdict(&frontend, &held, "reported").await,
        json!({"verdict": "accepted"})
    );
    assert_eq!(builder.log(&frontend, &held, 14, "late").await.status, 410);
    results_are_readable(&frontend, &build, attempt).await;
    frontend.stop().await;
    vhost.delete().await;
}

async fn results_are_readable(frontend: &Frontend, build: &Value, attempt: &Value) {
    let url = attempt["packages"][0]["files"][0]["url"].as_str().unwrap();
    let path = url.strip_prefix("http://public.example:8080").unwrap();
    assert_eq!(frontend.get(path).await.text(), "package");
    let folder = format!("/results/main/main/debian-13-x86_64/{}/", build["id"]);
    let listing = frontend.get(&folder).await.json();
    let names: Vec<&Value> = listing["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| &i["name"])
        .collect();
    assert_eq!(names, ["a-1-1.x86_64.rpm", "build.log"]);
    let log = frontend.get(&format!("{folder}build.log")).await;
    assert_eq!(
        (log.text().as_str(), log.content_type.as_str()),
        ("log", "text/plain; charset=utf-8")
    );
    let html = frontend.browse(&folder).await;
    assert!(
        html.contains("text/html") && html.contains("build.log</a>"),
        "{html}"
    );
    let above = frontend
        .get("/results/main/main/debian-13-x86_64/")
        .await
        .text();
    assert!(above.contains(&folder), "{above}");
    let tail = frontend
        .get(&format!("/api/v1/builds/{}/log?offset=8", build["id"]))
        .await;
    assert_eq!(
        (tail.text().as_str(), tail.content_type.as_str()),
        ("three\n", "text/plain; charset=utf-8")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_without_its_files_asks_for_them() {
    let vhost = TestVhost::create().await;
    let frontend = Frontend::start_on(&vhost).await;
    let mut builder = Builder::start(&frontend, &vhost).await;
    frontend.submit(json!({})).await;
    let held = builder.take(&frontend).await;
    let files = [("build.log", "log")];
    builder
        .report(&held, Outcome::new(OutcomeKind::BuildFailed, "no"), &files)
        .await;
    let missing = json!({"verdict": "missing", "files": [{"position": 0, "name": "build.log"}]});
    frontend
        .until("asked for", async |f| {
            builder.verdict(f, &held, "reported").await == missing
        })
        .await;
    assert_eq!(
        builder
            .upload(&frontend, &held, "build.log", "log")
            .await
            .status,
        204
    );
    builder
        .report(&held, Outcome::new(OutcomeKind::BuildFailed, "no"), &files)
        .await;
    let done = until_state(&frontend, &held, "failed").await;
    assert_eq!(done["outcome"]["kind"], "build_failed");
    frontend.stop().await;
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_was_given_up_is_taken_in_after_all() {
    let vhost = TestVhost::create().await;
    let frontend = Frontend::start_on(&vhost).await;
    let mut builder = Builder::start(&frontend, &vhost).await;
    frontend.submit(json!({})).await;
    let held = builder.take(&frontend).await;
    let outcome = Outcome::new(OutcomeKind::BuildFailed, "no");
    let body = builder.words(&held, outcome, &[]);
    // As the broker does it with a report that outlasted its deliveries.
    let dead_letter = Parking {
        queue: EVENTS_QUEUE,
        reason: "delivery limit reached on millrace.events.frontend",
        message_id: None,
        body: &body,
    };
    builder.bus.wait_up(PATIENCE).await.unwrap();
    builder.bus.publisher().park(dead_letter).await.unwrap();
    let done = until_state(&frontend, &held, "failed").await;
    assert_eq!(done["outcome"]["kind"], "build_failed", "{done:#}");
    assert_eq!(done["attempts"][0]["state"], "finished", "{done:#}");
    let parked = frontend.get("/api/v1/parked").await.json();
    assert_eq!(parked["items"], json!([]));
    frontend.stop().await;
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_lease_and_a_broken_message_change_nothing_but_the_parked_list() {
    let vhost = TestVhost::create().await;
    let frontend = Frontend::start_on(&vhost).await;
    let mut builder = Builder::start(&frontend, &vhost).await;
    frontend.submit(json!({})).await;
    let held = builder.take(&frontend).await;
    let forged = Held {
        job: held.job.clone(),
        lease: "f".repeat(64),
    };
    builder
        .report(&forged, Outcome::new(OutcomeKind::Succeeded, "x"), &[])
        .await;
    builder
        .publish(b"{\"lease_token\": \"0123456789abcdef0123456789abcdef\", oops".to_vec())
        .await;
    let gossip = json!({"id": Uuid::nil(), "kind": "gossip", "version": 1, "time": chrono::Utc::now(), "body": {}});
    builder.publish(gossip.to_string().into_bytes()).await;
    let newer = json!({"id": Uuid::nil(), "kind": "finished", "version": 99, "time": chrono::Utc::now(),
        "body": {"lease_token": "hush"}});
    builder.publish(newer.to_string().into_bytes()).await;
    frontend
        .until("parked", async |f| {
            f.get("/api/v1/parked").await.json()["items"]
                .as_array()
                .unwrap()
                .len()
                == 3
        })
        .await;
    let parked = frontend.get("/api/v1/parked").await;
    assert!(!parked.text().contains("hush") && !parked.text().contains("0123456789abcdef"));
    let reasons = parked.text();
    for reason in [
        "unparsable",
        "unknown kind 'gossip'",
        "version 99 is not supported",
    ] {
        assert!(reasons.contains(reason), "{reason}: {reasons}");
    }
    assert_eq!(
        parked.json()["items"][0]["queue"],
        "millrace.events.frontend"
    );
    assert_eq!(task(&frontend, &held).await["state"], "running");
    let files: [(&str, &str); 0] = [];
    builder
        .report(&held, Outcome::new(OutcomeKind::BuildFailed, "no"), &files)
        .await;
    until_state(&frontend, &held, "failed").await;
    frontend.stop().await;
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_build_is_cancelled_through_its_builder() {
    let vhost = TestVhost::create().await;
    let frontend = Frontend::start_on(&vhost).await;
    let mut builder = Builder::start(&frontend, &vhost).await;
    let build = frontend.submit(json!({})).await["id"].clone();
    let held = builder.take(&frontend).await;
    assert_eq!(
        builder.verdict(&frontend, &held, "building").await["verdict"],
        "continue"
    );
    let path = format!("/api/v1/builds/{build}/cancel");
    let reply = frontend.post(&path, &json!({})).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["tasks"][0]["cancel_requested"], true);
    assert_eq!(
        builder.verdict(&frontend, &held, "building").await["verdict"],
        "cancel"
    );
    builder
        .report(
            &held,
            Outcome::new(OutcomeKind::Cancelled, "asked for"),
            &[],
        )
        .await;
    until_state(&frontend, &held, "cancelled").await;
    frontend.stop().await;
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_job_is_offered_again_and_a_parked_one_is_taken_back() {
    let vhost = TestVhost::create().await;
    let frontend = Frontend::start_on(&vhost).await;
    let mut builder = Builder::start(&frontend, &vhost).await;
    frontend.submit(json!({})).await;
    let first = builder.receive().await;
    let decline = json!({"attempt_id": first.attempt_id, "reason": "no_room"});
    let reply = frontend
        .post_as(&builder.token, "/builder/v1/decline", &decline)
        .await;
    assert_eq!(reply.status, 204);
    let held = builder.take(&frontend).await;
    assert_eq!(
        (held.job.task_id, held.job.attempt_number),
        (first.task_id, 2)
    );

    let later = json!({"id": Uuid::nil(), "kind": "finished", "version": 99, "time": chrono::Utc::now(),
        "body": {"attempt_id": held.job.attempt_id}});
    builder.publish(later.to_string().into_bytes()).await;
    let third = builder.receive().await;
    assert_eq!((third.task_id, third.attempt_number), (first.task_id, 3));
    assert_eq!(
        builder.verdict(&frontend, &held, "building").await["verdict"],
        "revoked"
    );
    frontend.stop().await;
    vhost.delete().await;
}
