//! A small poller with the habits of 2012: it polls without a pause in its trust, keeps each build it was told of as a
//! file, begins it late, says so with fractions of seconds, and builds nothing. For trying a site before real pollers are
//! pointed at it.
//!
//! Each build is begun once in the life of the process, whatever the list says later; files that an earlier process left
//! are begun without asking anybody. An answer that is no JSON ends it, and any status but 200 to a report ends what
//! that worker has.

mod job;
mod worker;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use millrace_chassis::{ApiClient, Method};
use serde_json::Value;
use tokio::sync::{Mutex, Notify};

use crate::args::Simulate;
use crate::exit::{Ending, Fault};
use job::id_of;
use worker::Worker;

/// Runs until it is stopped, or with `--once` until the first list is done.
pub async fn run(options: Simulate) -> anyhow::Result<Ending> {
    std::fs::create_dir_all(&options.spool)
        .with_context(|| format!("cannot make {}", options.spool.display()))?;
    let api = ApiClient::new(&options.frontend_url, None)?;
    let queue = Arc::new(Queue::default());
    for id in spooled(&options.spool)? {
        queue.add(&options.spool, id).await;
    }
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..options.workers.max(1) {
        let worker = Worker {
            api: api.clone(),
            options: options.clone(),
            queue: queue.clone(),
        };
        workers.spawn(worker.run());
    }
    loop {
        match fetch(&api).await {
            Ok(list) => {
                for build in list["builds"].as_array().into_iter().flatten() {
                    take(&options.spool, &queue, build).await?;
                }
            }
            // Only what the transport says is forgiven.
            Err(Failure::Transport(error)) => eprintln!("simulate: {error}"),
            Err(Failure::NoJson(error)) => return Err(Fault(error).into()),
        }
        if options.once && queue.is_done().await {
            return Ok(Ending::Done);
        }
        tokio::time::sleep(Duration::from_millis(options.sleep_millis)).await;
    }
}

enum Failure {
    Transport(String),
    NoJson(String),
}

async fn fetch(api: &ApiClient) -> Result<Value, Failure> {
    let request = api.request(Method::GET, "/waiting_builds/");
    let transport = |error: &dyn std::fmt::Display| Failure::Transport(error.to_string());
    let response = request.send().await.map_err(|error| transport(&error))?;
    let body = response.bytes().await.map_err(|error| transport(&error))?;
    serde_json::from_slice(&body)
        .map_err(|error| Failure::NoJson(format!("the frontend's answer is no JSON: {error}")))
}

/// Writes the build down, unless it is there, and has it begun, unless it was.
async fn take(spool: &Path, queue: &Queue, build: &Value) -> anyhow::Result<()> {
    let Some(id) = id_of(build) else {
        return Ok(());
    };
    if !queue.is_new(&id).await {
        return Ok(());
    }
    let path = spool.join(format!("{id}.json"));
    if !path.exists() {
        std::fs::write(&path, build.to_string())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    queue.add(spool, id).await;
    Ok(())
}

/// Numbers of the builds that an earlier process left.
fn spooled(spool: &Path) -> anyhow::Result<Vec<String>> {
    let entries =
        std::fs::read_dir(spool).with_context(|| format!("cannot read {}", spool.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut ids: Vec<String> = names
        .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
        .collect();
    ids.sort();
    Ok(ids)
}

/// Builds that are to be begun, in the order of their files' names.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// All that this process was ever told of.
    seen: HashSet<String>,
    files: std::collections::BTreeSet<PathBuf>,
    at_work: usize,
}

impl Queue {
    async fn is_new(&self, id: &str) -> bool {
        !self.waiting.lock().await.seen.contains(id)
    }

    async fn add(&self, spool: &Path, id: String) {
        let mut waiting = self.waiting.lock().await;
        let path = spool.join(format!("{id}.json"));
        if waiting.seen.insert(id) {
            waiting.files.insert(path);
            self.news.notify_one();
        }
    }

    /// The next file; waits until there is one.
    pub async fn next(&self) -> PathBuf {
        loop {
            let news = self.news.notified();
            if let Some(next) = self.take_first().await {
                return next;
            }
            news.await;
        }
    }

    async fn take_first(&self) -> Option<PathBuf> {
        let mut waiting = self.waiting.lock().await;
        let next = waiting.files.pop_first()?;
        waiting.at_work += 1;
        // One word may stand for several files.
        self.news.notify_one();
        Some(next)
    }

    /// A file that was begun is done, or given up.
    pub async fn done(&self) {
        self.waiting.lock().await.at_work -= 1;
    }

    async fn is_done(&self) -> bool {
        let waiting = self.waiting.lock().await;
        waiting.files.is_empty() && waiting.at_work == 0
    }
}
