//! A worker of the simulated poller. It waits as if a machine were made ready, reports the start, pretends to build each
//! package in each chroot, and reports the end.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use millrace_chassis::{ApiClient, Backoff, BackoffExt, Method};
use serde_json::{Value, json};

use crate::args::legacy::Simulate;
use crate::simulate::job::{Job, parse};
use crate::simulate::queue::Queue;

/// Tries of a report while the frontend cannot be reached, and the pauses in between.
const TRIES: u32 = 20;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// One of the builds that are started at once.
pub struct Worker {
    pub api: ApiClient,
    pub options: Simulate,
    pub queue: Arc<Queue>,
}

impl Worker {
    /// Takes builds for ever. A failure ends the build that it befell: where a poller of 2012 loses the worker process and
    /// starts another, this one goes on.
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

    /// Waits as long as a build takes, and leaves a file `success` where the package's results would be.
    async fn build(&self, job: &Job, chroot: &str, package: &str) -> Result<(), String> {
        tokio::time::sleep(Duration::from_millis(self.options.build_millis)).await;
        let Some(folder) = &self.options.destdir else {
            return Ok(());
        };
        let name = package.rsplit('/').next().unwrap_or_default();
        let name = name.trim_end_matches(".src.rpm");
        // Names come from the server: one that could leave its folder is refused.
        let parts = job.folder.split('/').chain([chroot, name]);
        let mut path = folder.clone();
        for part in parts {
            part.parse::<millrace_domain::FileName>()
                .map_err(|error| format!("{part:?}: {error}"))?;
            path.push(part);
        }
        let write_marker = || {
            std::fs::create_dir_all(&path)?;
            std::fs::write(path.join("success"), "")
        };
        write_marker().map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Sends a report, and repeats it while the frontend cannot be reached. Any status but 200 is an error, as it is the end
    /// of a worker of 2012.
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
