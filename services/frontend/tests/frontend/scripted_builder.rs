//! A scripted builder: the test makes its requests and publishes its reports, and nothing is built.

use std::time::Duration;

use millrace_bus::testing::TestVhost;
use millrace_bus::{Bus, BusConfig, Delivery, JobConsumer, JobRoute, Outgoing, Route, Topology};
use millrace_chassis::Method;
use millrace_domain::{AttemptId, BuilderId, MemoryClasses, Outcome, Stage, StageTime, Token};
use millrace_wire::{FinishedV1, JobV1, ManifestFile, PackageReport, decode, encode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::support::{ENROL, Frontend, Reply, send};

pub const PATIENCE: Duration = Duration::from_secs(20);

/// An enrolled builder without sandboxes, which consumes one job queue.
pub struct ScriptedBuilder {
    pub id: BuilderId,
    pub token: String,
    pub bus: Bus,
    deliveries: mpsc::Receiver<Delivery>,
    _consumer: JobConsumer,
}

/// An attempt that the builder has claimed, with its lease.
pub struct HeldAttempt {
    pub job: JobV1,
    pub lease: String,
}

impl ScriptedBuilder {
    /// Enrols, consumes the smallest job queue, and sends a first heartbeat so that work is released to it.
    pub async fn start(frontend: &Frontend, vhost: &TestVhost) -> Self {
        let id = BuilderId::generate();
        let enrol = json!({"builder_id": id, "name": "scripted", "engine_id": "engine", "engine_budget_mib": 16384,
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
        builder.heartbeat(frontend, json!([])).await;
        builder
    }

    /// Sends a heartbeat with these attempts, and returns the answer.
    pub async fn heartbeat(&self, frontend: &Frontend, attempts: Value) -> Value {
        let body = json!({"free_mib": 16384, "free_sandboxes": 4, "attempts": attempts});
        let reply = frontend
            .post_as(&self.token, "/builder/v1/heartbeat", &body)
            .await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    /// Sends a heartbeat with this attempt, and returns the verdict on it.
    pub async fn verdict(&self, frontend: &Frontend, held: &HeldAttempt, phase: &str) -> Value {
        let attempt =
            json!({"attempt_id": held.job.attempt_id, "lease_token": held.lease, "phase": phase});
        self.heartbeat(frontend, json!([attempt])).await["attempts"][0]["verdict"].clone()
    }

    /// Receives the next job message.
    pub async fn receive(&mut self) -> JobV1 {
        let received = tokio::time::timeout(PATIENCE, self.deliveries.recv()).await;
        let delivery = received.expect("a job in time").unwrap();
        let job = decode::<JobV1>(&delivery.body).unwrap().body;
        delivery.ack().await.unwrap();
        job
    }

    pub async fn claim(&self, frontend: &Frontend, attempt: AttemptId, nonce: &str) -> Reply {
        let body = json!({"attempt_id": attempt, "nonce": nonce});
        frontend
            .post_as(&self.token, "/builder/v1/claim", &body)
            .await
    }

    /// Receives the next job message and claims its attempt.
    pub async fn claim_next(&mut self, frontend: &Frontend) -> HeldAttempt {
        let job = self.receive().await;
        let reply = self.claim(frontend, job.attempt_id, "nonce").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let lease = reply.json()["lease_token"].as_str().unwrap().to_owned();
        HeldAttempt { job, lease }
    }

    pub async fn append_log(
        &self,
        frontend: &Frontend,
        held: &HeldAttempt,
        offset: usize,
        text: &str,
    ) -> Reply {
        let path = format!(
            "/builder/v1/attempts/{}/log?offset={offset}",
            held.job.attempt_id
        );
        let request = frontend.request(Method::POST, &path, &self.token);
        let request = request.header("millrace-lease", &held.lease);
        send(request.body(text.to_owned())).await
    }

    pub async fn upload_file(
        &self,
        frontend: &Frontend,
        held: &HeldAttempt,
        name: &str,
        text: &str,
    ) -> Reply {
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

    pub async fn report(&self, held: &HeldAttempt, outcome: Outcome, files: &[(&str, &str)]) {
        self.publish(self.report_message(held, outcome, files))
            .await;
    }

    /// The report of an attempt's end as it goes to the broker.
    pub fn report_message(
        &self,
        held: &HeldAttempt,
        outcome: Outcome,
        files: &[(&str, &str)],
    ) -> Vec<u8> {
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
            image_baked_at: None,
        };
        let body = encode(Uuid::now_v7(), chrono::Utc::now(), &report).unwrap();
        body.to_string().into_bytes()
    }

    pub async fn publish(&self, body: Vec<u8>) {
        self.bus.wait_up(PATIENCE).await.unwrap();
        let message = Outgoing {
            route: Route::AttemptFinished,
            message_id: Uuid::now_v7(),
            body,
        };
        self.bus.publisher().publish(message).await.unwrap();
    }
}

pub fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

pub async fn task(frontend: &Frontend, held: &HeldAttempt) -> Value {
    let path = format!("/api/v1/tasks/{}", held.job.task_id);
    frontend.get(&path).await.json()
}

pub async fn until_state(frontend: &Frontend, held: &HeldAttempt, state: &str) -> Value {
    frontend
        .until(state, async |f| task(f, held).await["state"] == state)
        .await;
    task(frontend, held).await
}
