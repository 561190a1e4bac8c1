//! The clients: they submit, repeat what was not answered clearly, cancel and resubmit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::client::{Answer, Frontends, Payload};
use super::environment::PROJECTS;
use super::journal::{CancelAnswer, Journal, Submission};
use super::options::Options;
use super::seeded_random::SeededRandom;
use super::watch::Watch;
use super::workload::{SourcePackage, Workload};

/// A submission without a clear answer is repeated for so long.
const INSISTING: Duration = Duration::from_mins(4);
const PRIORITIES: [&str; 4] = ["normal", "normal", "background", "high"];

/// What all clients share.
pub struct Load {
    /// The frontends.
    pub frontends: Frontends,
    /// What is known.
    pub journal: Arc<Journal>,
    /// What is under way.
    pub watch: Watch,
    workload: Workload,
    options: Options,
    chroot: String,
    stopped: AtomicBool,
    start: Instant,
}

impl Load {
    /// Nobody submits yet.
    pub fn new(options: &Options, addresses: Vec<String>, chroot: &str) -> Arc<Self> {
        let journal = Arc::new(Journal::default());
        Arc::new(Self {
            frontends: Frontends::new(addresses),
            watch: Watch::new(journal.clone()),
            journal,
            workload: Workload::new(options.is_real()),
            options: options.clone(),
            chroot: chroot.to_owned(),
            stopped: AtomicBool::new(false),
            start: Instant::now(),
        })
    }

    /// Clients work until [`Self::stop`]; a submission under way is brought to its answer.
    pub async fn run(self: Arc<Self>, seed: u64) {
        let mut clients = JoinSet::new();
        for number in 0..self.options.clients() {
            let random = SeededRandom::new(seed, 1 + number as u64);
            clients.spawn(self.clone().client(number, random));
        }
        while let Some(ended) = clients.join_next().await {
            ended.expect("a client does not panic");
        }
    }

    /// Nothing new is begun.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    async fn client(self: Arc<Self>, number: usize, mut random: SeededRandom) {
        let mut turn = 0;
        while self.may_begin().await {
            turn += 1;
            match random.below(100) {
                0..=9 => self.cancel(&mut random).await,
                10..=15 => {
                    self.resubmit(&format!("again-{number}-{turn}"), &mut random)
                        .await;
                }
                16..=19 => self.repeat(&mut random).await,
                _ => {
                    self.submit(&format!("new-{number}-{turn}"), &mut random)
                        .await;
                }
            }
        }
    }

    /// Waits until there is room for another task; false when there will be none.
    async fn may_begin(&self) -> bool {
        while !self.stopped.load(Ordering::Relaxed) {
            #[expect(clippy::cast_precision_loss, reason = "a number of tasks")]
            let in_time = self.options.rate().is_none_or(|rate| {
                (self.journal.count() as f64) < rate * self.start.elapsed().as_secs_f64() + 1.0
            });
            if in_time && self.watch.under_way() < self.options.outstanding() {
                return true;
            }
            sleep(Duration::from_millis(50)).await;
        }
        false
    }

    async fn submit(&self, key: &str, random: &mut SeededRandom) {
        let packages = self.workload.choose(random);
        let mut sources = Vec::new();
        for package in &packages {
            match self.upload(package).await {
                Some(source) => sources.push(source),
                // Nothing was asked for yet.
                None => return,
            }
        }
        let body = json!({
            "project": random.pick(&PROJECTS).map(|(owner, name)| format!("{owner}/{name}")),
            "sources": sources,
            "chroots": [self.chroot],
            "memory_reqs": packages.iter().map(|package| package.memory).max(),
            "timeout": 900,
            "priority": random.pick(&PRIORITIES),
        });
        let names = packages
            .iter()
            .map(|package| package.name.clone())
            .collect();
        self.insist("/api/v1/builds", key, &body, names).await;
    }

    async fn upload(&self, package: &SourcePackage) -> Option<Value> {
        let path = format!("/api/v1/sources?name={}.src.rpm", package.name);
        let end = Instant::now() + INSISTING;
        while Instant::now() < end && !self.stopped.load(Ordering::Relaxed) {
            let body = Payload::Bytes(package.bytes.clone());
            match self.frontends.ask(Method::POST, &path, body, None).await {
                Answer::Good(stored) => {
                    return Some(json!({ "sha256": stored["sha256"], "name": stored["name"] }));
                }
                Answer::Refused(status, why) => {
                    self.journal
                        .contradiction(format!("an upload was refused: {status} {why}"));
                    return None;
                }
                Answer::Unclear(_) => sleep(Duration::from_millis(300)).await,
            }
        }
        None
    }

    async fn resubmit(&self, key: &str, random: &mut SeededRandom) {
        let Some(earlier) = self.journal.some_answered(random.below(1 << 30)) else {
            return;
        };
        let path = format!("/api/v1/builds/{}/resubmit", earlier.answers[0]);
        self.insist(&path, key, &json!({}), earlier.sources).await;
    }

    /// Posts under a key until the answer is clear, as the promise wants it.
    async fn insist(&self, path: &str, key: &str, body: &Value, sources: Vec<String>) {
        let submission = Submission {
            key: key.to_owned(),
            path: path.to_owned(),
            body: body.clone(),
            sources,
            ..Submission::default()
        };
        self.journal.intend(submission);
        let end = Instant::now() + INSISTING;
        while let Err(unclear) = self.post(path, key, body).await {
            if Instant::now() > end {
                let text = format!("{key} got no clear answer within {INSISTING:?}: {unclear}");
                return self.journal.contradiction(text);
            }
            sleep(Duration::from_millis(300)).await;
        }
    }

    /// Posts once; an error is an answer that was not clear.
    async fn post(&self, path: &str, key: &str, body: &Value) -> Result<(), String> {
        let body = Payload::Json(body.clone());
        match self
            .frontends
            .ask(Method::POST, path, body, Some(key))
            .await
        {
            Answer::Good(build) => {
                let id = build["id"].as_i64().unwrap_or_default();
                self.journal.answered(key, id);
                self.watch.add(id);
                Ok(())
            }
            Answer::Refused(status, why) => {
                self.journal.refused(key, format!("{status} {why}"));
                Ok(())
            }
            Answer::Unclear(why) => Err(why),
        }
    }

    /// Sends what was answered once more, under its key: nothing new may come of it.
    async fn repeat(&self, random: &mut SeededRandom) {
        let Some(earlier) = self.journal.some_answered(random.below(1 << 30)) else {
            return;
        };
        // An answer that was not clear is none: another repeat may come.
        self.post(&earlier.path, &earlier.key, &earlier.body)
            .await
            .ok();
    }

    async fn cancel(&self, random: &mut SeededRandom) {
        let Some(build) = self.watch.some(random.below(1 << 30)) else {
            return;
        };
        let path = format!("/api/v1/builds/{build}/cancel");
        for _ in 0..5 {
            let answer = match self
                .frontends
                .ask(Method::POST, &path, Payload::None, None)
                .await
            {
                Answer::Good(_) => CancelAnswer::Accepted,
                Answer::Refused(409, _) => CancelAnswer::TooLate,
                Answer::Refused(status, why) => {
                    let text =
                        format!("the cancel of build {build} was answered with {status}: {why}");
                    return self.journal.contradiction(text);
                }
                Answer::Unclear(_) => CancelAnswer::Unclear,
            };
            self.journal.cancelled(build, answer);
            if answer != CancelAnswer::Unclear {
                return;
            }
            sleep(Duration::from_millis(300)).await;
        }
    }
}
