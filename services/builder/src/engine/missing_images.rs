//! Images of chroots that jobs need and that the engine does not have. A job whose image is missing is declined before it
//! is claimed, so that it uses up no attempt. Heartbeats report which images are missing, and the frontend releases tasks
//! that need them to other builders. The engine is checked again and again, so an image that was baked, built or loaded
//! is found without further action.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_chassis::{Backoff, BackoffExt, Shutdown};
use millrace_sandbox::{Runtime, SandboxError};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The first pause between two checks for missing images.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause between two checks for missing images.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// An image that no job has needed for this long is not checked any more.
const FORGET_AFTER: Duration = Duration::from_hours(1);
/// The most missing images that are remembered.
const MAX_IMAGES: usize = 100;

/// Missing images, with the time at which a job last needed each. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MissingImages {
    missing: Arc<Mutex<BTreeMap<String, Instant>>>,
    /// Wakes the loop that checks, and through it the heartbeat.
    newly_missing: Arc<Notify>,
}

impl MissingImages {
    /// Whether the engine has the image that a job needs. An engine that does not answer counts as having it: the error is
    /// reported when the sandbox is started.
    pub async fn has(&self, runtime: &Runtime, image: &str) -> bool {
        let is_missing = matches!(
            runtime.image_facts(image).await,
            Err(SandboxError::ImageMissing { .. })
        );
        let mut missing = self.lock();
        if !is_missing {
            missing.remove(image);
            return true;
        }
        let is_known = missing.contains_key(image);
        if is_known || missing.len() < MAX_IMAGES {
            missing.insert(image.to_owned(), Instant::now());
        }
        if !is_known {
            tracing::warn!(
                image,
                "the engine does not have the image of a job; bake, build or load it there; it is checked again until then"
            );
            self.newly_missing.notify_one();
        }
        false
    }

    /// The names of the missing images, sorted.
    pub fn missing(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Records that the engine has an image; true when it was missing before.
    pub fn appeared(&self, image: &str) -> bool {
        let was_missing = self.lock().remove(image).is_some();
        if was_missing {
            tracing::info!(image, "the image is not missing any more");
        }
        was_missing
    }

    /// Checks all missing images once; true when any is there now or was not needed for a long time.
    async fn recheck(&self, runtime: &Runtime) -> bool {
        let mut any = false;
        for image in self.missing() {
            let found = runtime.image_facts(&image).await;
            let is_old = |needed: &Instant| needed.elapsed() >= FORGET_AFTER;
            let mut missing = self.lock();
            if found.is_ok() || missing.get(&image).is_some_and(is_old) {
                missing.remove(&image);
                any = true;
                tracing::info!(
                    image,
                    found = found.is_ok(),
                    "the image is not missing any more"
                );
            }
        }
        any
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks missing images until the stop, and wakes the heartbeat when the list changes.
pub async fn run(
    images: MissingImages,
    runtime: Runtime,
    heartbeat_wake: Arc<Notify>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        if images.missing().is_empty() {
            backoff.reset();
            tokio::select! {
                () = shutdown.stopping() => return Ok(()),
                () = images.newly_missing.notified() => heartbeat_wake.notify_one(),
            }
        }
        if !backoff.pause(shutdown.soft()).await {
            return Ok(());
        }
        if images.recheck(&runtime).await {
            heartbeat_wake.notify_one();
        }
    }
}
