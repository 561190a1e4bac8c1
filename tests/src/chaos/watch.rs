//! Looks at every build until it has ended, and keeps what was seen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::client::Frontends;
use super::journal::{Journal, Seen};

/// Looks at once.
const LOOKS: usize = 4;
/// A round over all builds takes at least so long.
const ROUND: Duration = Duration::from_secs(1);
/// A waiting task that says no reason in so many looks one after another says none.
const UNEXPLAINED: usize = 5;

/// Builds that have not ended, with how often in a row they waited without a reason.
#[derive(Debug)]
pub struct Watch {
    journal: Arc<Journal>,
    under_way: Mutex<BTreeMap<i64, usize>>,
}

impl Watch {
    /// Nothing is watched yet.
    pub fn new(journal: Arc<Journal>) -> Self {
        Self {
            journal,
            under_way: Mutex::default(),
        }
    }

    /// Watches a build.
    pub fn add(&self, build: i64) {
        self.under_way.lock().unwrap().entry(build).or_default();
    }

    /// How many have not ended.
    pub fn under_way(&self) -> usize {
        self.under_way.lock().unwrap().len()
    }

    /// One that has not ended, chosen by a number.
    pub fn some(&self, choice: usize) -> Option<i64> {
        let under_way = self.under_way.lock().unwrap();
        let place = choice.checked_rem(under_way.len())?;
        under_way.keys().nth(place).copied()
    }

    /// Looks for ever.
    pub async fn run(&self, frontends: &Frontends) {
        loop {
            let started = Instant::now();
            let builds: Vec<i64> = self.under_way.lock().unwrap().keys().copied().collect();
            futures_util::stream::iter(builds)
                .map(|build| self.look(frontends, build))
                .buffer_unordered(LOOKS)
                .collect::<()>()
                .await;
            sleep(ROUND.saturating_sub(started.elapsed())).await;
        }
    }

    async fn look(&self, frontends: &Frontends, build: i64) {
        let Some(shown) = frontends.get(&format!("/api/v1/builds/{build}")).await else {
            return;
        };
        let tasks = shown["tasks"].as_array().cloned().unwrap_or_default();
        for task in &tasks {
            self.note(build, task);
        }
        if !tasks.is_empty() && tasks.iter().all(has_ended) {
            self.under_way.lock().unwrap().remove(&build);
        }
    }

    fn note(&self, build: i64, task: &Value) {
        let id = task["id"].as_i64().unwrap_or_default();
        let state = task["state"].as_str().unwrap_or_default().to_owned();
        if has_ended(task) {
            self.journal.saw(
                id,
                Seen {
                    state,
                    outcome: task["outcome"].clone(),
                },
            );
            return;
        }
        let unexplained = state == "waiting" && task["wait"].is_null();
        let mut under_way = self.under_way.lock().unwrap();
        if let Some(count) = under_way.get_mut(&build) {
            *count = if unexplained { *count + 1 } else { 0 };
            if *count == UNEXPLAINED {
                self.journal
                    .contradiction(format!("task {id} waits and does not say why"));
            }
        }
    }
}

fn has_ended(task: &Value) -> bool {
    matches!(
        task["state"].as_str(),
        Some("succeeded" | "failed" | "cancelled")
    )
}
