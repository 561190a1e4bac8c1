//! A worker of the poller: a machine is made ready first, then the start is reported, and each package pretended to be
//! built in each chroot.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use millrace_chassis::{ApiClient, Backoff, BackoffExt, Method};
use serde_json::{Value, json};

use super::Queue;
use super::job::{Job, parse};
use crate::args::Simulate;

/// How often a report is tried while the frontend cannot be reached, and the distance in between, at first and at most.
const TRIES: u32 = 20;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What a worker works with.
pub struct Worker {
    pub api: ApiClient,
    pub options: Simulate,
    pub queue: Arc<Queue>,
}

impl Worker {
    /// Works for ever. What fails ends one build; the next one is a new worker's, as it were.
    pub async fn run(self) {
        loop {
            let file = self.queue.next().await;
            match self.work(&file).await {
                Ok(id) => println!("build {id} is done"),
                Err(reason) => println!("{}: the worker died: {reason}", file.display()),
            }
            self.queue.done().await;
        }
    }

    async fn work(&self, file: &Path) -> Result<i64, String> {
        let text = std::fs::read(file).map_err(|error| error.to_string())?;
        let build: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        let job = parse(&build)?;
        tokio::time::sleep(Duration::from_millis(self.options.spawn_millis)).await;
        let results = format!(
            "{}/{}/",
            self.options.results.trim_end_matches('/'),
            job.folder
        );
        let started = json!({"id": job.id, "started_on": now(), "results": results});
        self.report(&started).await?;
        println!("build {} has begun", job.id);
        for chroot in &job.chroots {
            for package in &job.pkgs {
                self.build(&job, chroot, package).await?;
            }
        }
        // The status says that a machine could be used, not that packages were built.
        self.report(&json!({"id": job.id, "ended_on": now(), "status": 1}))
            .await?;
        std::fs::remove_file(file).map_err(|error| error.to_string())?;
        Ok(job.id)
    }

    async fn build(&self, job: &Job, chroot: &str, package: &str) -> Result<(), String> {
        tokio::time::sleep(Duration::from_millis(self.options.build_millis)).await;
        let Some(folder) = &self.options.destdir else {
            return Ok(());
        };
        let name = package.rsplit('/').next().unwrap_or_default();
        let name = name.trim_end_matches(".src.rpm");
        // What the server says never becomes a path unchecked.
        let parts = job.folder.split('/').chain([chroot, name]);
        let mut path = folder.clone();
        for part in parts {
            part.parse::<millrace_domain::FileName>()
                .map_err(|error| format!("{part:?}: {error}"))?;
            path.push(part);
        }
        let mark = || {
            std::fs::create_dir_all(&path)?;
            std::fs::write(path.join("success"), "")
        };
        mark().map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Any status but 200 is the end of a worker.
    async fn report(&self, build: &Value) -> Result<(), String> {
        let mut last = String::new();
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        for _ in 0..TRIES {
            let request = self
                .api
                .request(Method::POST, "/update_builds/")
                .basic_auth("user", Some(&self.options.secret))
                .json(&json!({ "builds": [build] }));
            match request.send().await {
                Ok(response) if response.status().as_u16() == 200 => return Ok(()),
                Ok(response) => {
                    return Err(format!("the frontend answered with {}", response.status()));
                }
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
        Err(last)
    }
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}
