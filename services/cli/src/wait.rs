//! Waiting for a build's end, over outages of the server, with progress for people.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use futures_util::future::try_join_all;
use millrace_chassis::{ApiClient, ApiError, Backoff, BackoffExt, CancellationToken};
use tokio::time::Instant;

use crate::client::{self, Answer};
use crate::config::Config;
use crate::exit::Fault;
use crate::model::Build;
use crate::{follow, render};

/// How long the server may be away before waiting is given up.
pub const PATIENCE: Duration = Duration::from_mins(15);
/// How often a build is looked at.
const INTERVAL: Duration = Duration::from_millis(500);

/// The API's path of a build.
pub fn path(build: i64) -> String {
    format!("/api/v1/builds/{build}")
}

/// Waits until the build has ended.
pub async fn until_end(config: &Config, build: i64) -> anyhow::Result<Answer<Build>> {
    let mut progress = Progress::default();
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        interval.tick().await;
        let answer = patiently(&config.api, build).await?;
        progress.show(&answer.object);
        if answer.object.state.is_terminal() {
            progress.end();
            return Ok(answer);
        }
    }
}

/// Prints the logs of all tasks while they are written, then returns the ended build.
pub async fn follow(config: &Config, build: &Build) -> anyhow::Result<Answer<Build>> {
    let several = build.tasks.len() > 1;
    try_join_all(
        build
            .tasks
            .iter()
            .map(|task| follow::task(&config.api, build.id, &task.chroot, several)),
    )
    .await?;
    until_end(config, build.id).await
}

/// Reads a build, bearing an outage for [`PATIENCE`].
pub async fn patiently(api: &ApiClient, build: i64) -> anyhow::Result<Answer<Build>> {
    let started = Instant::now();
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
    loop {
        match client::get(api, &path(build)).await {
            Err(error)
                if error
                    .downcast_ref::<ApiError>()
                    .is_some_and(ApiError::is_transient) =>
            {
                if started.elapsed() > PATIENCE {
                    let goes_on = format!("build {build} goes on without you");
                    return Err(gave_up(&error.to_string(), &goes_on).into());
                }
                backoff.pause(&CancellationToken::new()).await;
            }
            settled => return settled,
        }
    }
}

/// What is said when [`PATIENCE`] has come to an end.
pub fn gave_up(reason: &str, rest: &str) -> Fault {
    let minutes = PATIENCE.as_secs() / 60;
    Fault(format!("{reason}; gave up after {minutes} minutes, {rest}"))
}

/// A line that is rewritten on a terminal, and a line per change in a pipe.
#[derive(Default)]
struct Progress {
    last: String,
}

impl Progress {
    fn show(&mut self, build: &Build) {
        let mut stderr = std::io::stderr();
        // A place in the line changes all the time: only where a line is written over.
        let line = render::progress(build, stderr.is_terminal());
        if line == self.last {
            return;
        }
        if stderr.is_terminal() {
            eprint!("\r\x1b[K{line}");
            stderr.flush().ok();
        } else {
            eprintln!("{line}");
        }
        self.last = line;
    }

    fn end(&self) {
        if std::io::stderr().is_terminal() && !self.last.is_empty() {
            eprintln!();
        }
    }
}
