//! The way back of a builder that was set aside for faults of its own: the frontend asks for the self-test of the
//! start, and hears when it has passed.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use millrace_chassis::{Backoff, BackoffExt, Shutdown};
use millrace_domain::BuilderId;
use millrace_sandbox::SandboxError;
use tokio::sync::{Notify, watch};

use crate::config::Config;
use crate::config::sandbox::SandboxKind;
use crate::engine::prepare;

/// The longest distance between two tests.
const MAX_DELAY: Duration = Duration::from_mins(10);

/// What is asked for and what has passed, under the time at which this builder was set aside.
#[derive(Debug, Clone, Default)]
pub struct SelfTests {
    asked: Arc<watch::Sender<Option<DateTime<Utc>>>>,
    passed: Arc<watch::Sender<Option<DateTime<Utc>>>>,
}

impl SelfTests {
    /// The frontend asks for a test, or for none any more.
    pub fn ask(&self, at: Option<DateTime<Utc>>) {
        let is_new = self.asked.send_if_modified(|asked| {
            let is_new = *asked != at;
            *asked = at;
            is_new
        });
        match at {
            Some(_) if is_new => tracing::warn!(
                "set aside for faults of this builder: it takes no jobs until its self-test has passed"
            ),
            None if is_new => tracing::info!("no longer set aside"),
            _ => {}
        }
    }

    /// The test that has passed.
    pub fn passed(&self) -> Option<DateTime<Utc>> {
        *self.passed.borrow()
    }
}

/// Tests when asked to, until the stop.
pub async fn run(
    tests: SelfTests,
    config: Config,
    builder: BuilderId,
    heartbeat_wake: Arc<Notify>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let first = Duration::from_secs(config.self_test_seconds.into());
    let mut asked = tests.asked.subscribe();
    loop {
        let at = *asked.borrow_and_update();
        tokio::select! {
            biased;
            () = shutdown.stopping() => return Ok(()),
            changed = asked.changed() => changed?,
            at = until_passed(&config, builder, Backoff::new(first, MAX_DELAY), at) => {
                tests.passed.send_replace(Some(at));
                heartbeat_wake.notify_one();
                tokio::select! {
                    () = shutdown.stopping() => return Ok(()),
                    changed = asked.changed() => changed?,
                }
            }
        }
    }
}

/// Tests again and again, at a growing distance; never ends where nothing is asked for.
async fn until_passed(
    config: &Config,
    builder: BuilderId,
    mut backoff: Backoff,
    at: Option<DateTime<Utc>>,
) -> DateTime<Utc> {
    let Some(at) = at else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(backoff.next_delay()).await;
        match test(config, builder).await {
            Ok(()) => return at,
            Err(error) => tracing::warn!("the self-test fails, this builder stays aside: {error}"),
        }
    }
}

async fn test(config: &Config, builder: BuilderId) -> Result<(), SandboxError> {
    match config.sandbox {
        SandboxKind::Mock => prepare::test(config, builder).await.map(|_| ()),
        SandboxKind::Noop => Ok(()),
    }
}
