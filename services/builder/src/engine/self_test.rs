//! Lets a builder that was set aside for its own faults return: runs the self-test of the start when the frontend asks
//! for it, with growing pauses, and reports a pass in the next heartbeat.

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

/// The longest pause between two tests.
const MAX_DELAY: Duration = Duration::from_mins(10);

/// The self-test that is requested and the last that passed, each named by the time at which this builder was set aside.
/// Clones share them.
#[derive(Debug, Clone, Default)]
pub struct SelfTests {
    requested: Arc<watch::Sender<Option<DateTime<Utc>>>>,
    passed: Arc<watch::Sender<Option<DateTime<Utc>>>>,
}

impl SelfTests {
    /// Requests a test for the time at which this builder was set aside; none withdraws the request.
    pub fn request(&self, at: Option<DateTime<Utc>>) {
        let is_new = self.requested.send_if_modified(|requested| {
            let is_new = *requested != at;
            *requested = at;
            is_new
        });
        match at {
            Some(_) if is_new => tracing::warn!(
                "the frontend has set this builder aside for its own faults; it takes no jobs until its self-test has passed"
            ),
            None if is_new => tracing::info!("this builder is not set aside any more"),
            _ => {}
        }
    }

    /// The last request whose test has passed, as the heartbeat reports it; none before the first.
    pub fn passed(&self) -> Option<DateTime<Utc>> {
        *self.passed.borrow()
    }
}

/// Runs requested tests until the stop.
pub async fn run(
    tests: SelfTests,
    config: Config,
    builder: BuilderId,
    heartbeat_wake: Arc<Notify>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let first = Duration::from_secs(config.self_test_seconds.into());
    let mut requested = tests.requested.subscribe();
    loop {
        let at = *requested.borrow_and_update();
        tokio::select! {
            biased;
            () = shutdown.stopping() => return Ok(()),
            changed = requested.changed() => changed?,
            at = until_passed(&config, builder, Backoff::new(first, MAX_DELAY), at) => {
                tests.passed.send_replace(Some(at));
                heartbeat_wake.notify_one();
                tokio::select! {
                    () = shutdown.stopping() => return Ok(()),
                    changed = requested.changed() => changed?,
                }
            }
        }
    }
}

/// Tests again and again, with growing pauses, until the test passes. Pends for ever when none is requested.
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
            Err(error) => {
                tracing::warn!("the self-test failed, this builder stays set aside: {error}");
            }
        }
    }
}

async fn test(config: &Config, builder: BuilderId) -> Result<(), SandboxError> {
    match config.sandbox {
        SandboxKind::Mock => prepare::test(config, builder).await.map(|_| ()),
        SandboxKind::Noop => Ok(()),
    }
}
