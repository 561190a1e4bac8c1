//! Images of chroots that orders asked for and that the engine does not have. An order whose image is missing is
//! declined before it is claimed, so that it uses up no attempt; the frontend hears which images are missing and
//! releases what needs them to other builders. Whoever bakes, builds or loads the image has nothing more to do: it is
//! looked for again and again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_chassis::{Backoff, BackoffExt, Shutdown};
use millrace_sandbox::{Runtime, SandboxError};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Time between two looks for missing images, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// An image that no order asked for so long is looked for no more.
const FORGET_AFTER: Duration = Duration::from_hours(1);
/// Images that are remembered at once.
const MAX_IMAGES: usize = 100;

/// Missing images, and when each was last asked for. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MissingImages {
    missing: Arc<Mutex<BTreeMap<String, Instant>>>,
    first_missing: Arc<Notify>,
}

impl MissingImages {
    /// Whether the engine has the image that an order needs. An engine that does not answer counts as having it: that
    /// comes out when the sandbox is made.
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
                "the engine has no such image; it is baked, or has to be built or loaded there, and is looked for again"
            );
            self.first_missing.notify_one();
        }
        false
    }

    /// Images that are missing, by name.
    pub fn missing(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Says that an image is there; whether it was missing.
    pub fn appeared(&self, image: &str) -> bool {
        let was_missing = self.lock().remove(image).is_some();
        if was_missing {
            tracing::info!(image, "the image is missing no more");
        }
        was_missing
    }

    /// Looks for missing images once; whether some are missing no more.
    async fn recheck(&self, runtime: &Runtime) -> bool {
        let mut any = false;
        for image in self.missing() {
            let found = runtime.image_facts(&image).await;
            let is_old = |first_missing: &Instant| first_missing.elapsed() >= FORGET_AFTER;
            let mut missing = self.lock();
            if found.is_ok() || missing.get(&image).is_some_and(is_old) {
                missing.remove(&image);
                any = true;
                tracing::info!(image, found = found.is_ok(), "the image is missing no more");
            }
        }
        any
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks for missing images until the stop.
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
                () = images.first_missing.notified() => heartbeat_wake.notify_one(),
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
