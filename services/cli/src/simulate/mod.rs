//! `millrace poller simulate`: a small poller with the habits of 2012 that builds nothing, to try a site with before
//! real pollers are pointed at it.
//!
//! It polls without a pause for errors, writes each build of the list to a file, starts it late, and reports times with
//! fractions of seconds. Each build is started once in the life of the process, whatever the list says later; files that
//! an earlier process left are started without asking the server. An answer that is not JSON ends the process, and any
//! status but 200 to a report ends the worker that sent it.

mod job;
mod queue;
mod worker;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use millrace_chassis::{ApiClient, Method};
use serde_json::Value;

use crate::args::legacy::Simulate;
use crate::error::ServiceError;
use crate::exit::Ending;
use job::id_of;
use queue::Queue;
use worker::Worker;

/// Runs until it is stopped, or with `--once` until nothing is listed and all is done.
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
        match fetch_list(&api).await {
            Ok(list) => {
                for build in list["builds"].as_array().into_iter().flatten() {
                    add_build(&options.spool, &queue, build).await?;
                }
            }
            // A poller of 2012 forgives the network and nothing else.
            Err(ListError::Transport(error)) => eprintln!("simulate: {error}"),
            Err(ListError::NotJson(error)) => return Err(ServiceError(error).into()),
        }
        if options.once && queue.is_done().await {
            return Ok(Ending::Done);
        }
        tokio::time::sleep(Duration::from_millis(options.sleep_millis)).await;
    }
}

enum ListError {
    Transport(String),
    NotJson(String),
}

async fn fetch_list(api: &ApiClient) -> Result<Value, ListError> {
    let request = api.request(Method::GET, "/waiting_builds/");
    let transport = |error: &dyn std::fmt::Display| ListError::Transport(error.to_string());
    let response = request.send().await.map_err(|error| transport(&error))?;
    let body = response.bytes().await.map_err(|error| transport(&error))?;
    serde_json::from_slice(&body)
        .map_err(|error| ListError::NotJson(format!("the frontend's answer is not JSON: {error}")))
}

/// Writes a listed build to the spool unless its file is there, and queues it unless this process had it before.
async fn add_build(spool: &Path, queue: &Queue, build: &Value) -> anyhow::Result<()> {
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

/// Numbers of the builds whose files an earlier process left.
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

#[cfg(test)]
mod tests;
