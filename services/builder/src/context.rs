//! What all parts of a running builder share.

use std::sync::Arc;
use std::time::Duration;

use millrace_bus::Publisher;
use millrace_chassis::{CancellationToken, Fetcher, Shutdown};
use millrace_domain::BuilderId;
use millrace_sandbox::Runtime;
use millrace_wire::{DiskShortage, Hindrances};
use tokio::sync::{Notify, Semaphore};

use crate::attempt_registry::AttemptRegistry;
use crate::config::sandbox::SandboxSettings;
use crate::engine::missing_images::MissingImages;
use crate::engine::room::Room;
use crate::engine::self_test::SelfTests;
use crate::frontend::client::FrontendClient;
use crate::spool::Spool;
use crate::spool::atomic_file::Durability;
use crate::spool::blocking::on_disk;
use crate::spool::disk_space::SpoolSpace;

/// The shared parts.
pub struct Context {
    /// Who this builder is.
    pub builder: BuilderId,
    /// How it is called.
    pub name: String,
    /// Sandboxes.
    pub sandboxes: SandboxSettings,
    /// Where sandboxes come from.
    pub runtime: Runtime,
    /// The frontend.
    pub frontend: FrontendClient,
    /// The broker.
    pub publisher: Publisher,
    /// Fetches from outside.
    pub fetcher: Fetcher,
    /// How long a fetch that may succeed later is tried again.
    pub fetch_retry_time: Duration,
    /// The attempts on the disk.
    pub spool: Spool,
    /// Whether the disk has space.
    pub disk: SpoolSpace,
    /// Images that the engine lacks.
    pub missing_images: MissingImages,
    /// How long work that is done waits for space on the disk.
    pub spool_wait_limit: Duration,
    /// The room.
    pub room: Room,
    /// Attempts that this builder has.
    pub registry: AttemptRegistry,
    /// Self-tests that the frontend asks for.
    pub self_tests: SelfTests,
    /// Wakes the heartbeat.
    pub heartbeat_wake: Arc<Notify>,
    /// Files that are uploaded at once.
    pub uploads: Semaphore,
    /// The wish to stop.
    pub shutdown: Shutdown,
    /// Cancelled when a stopping builder waits for nothing any more.
    pub leaving: CancellationToken,
}

impl Context {
    /// Whether sandboxes are the stand-in that runs nothing: nothing is fetched then and nothing collected.
    pub fn is_noop(&self) -> bool {
        matches!(self.runtime, Runtime::Noop(_))
    }

    /// What keeps this builder from work now.
    pub fn hindrances(&self) -> Hindrances {
        let disk = self.disk.shortage().map(|shortage| DiskShortage {
            free_mib: shortage.free_mib,
            floor_mib: shortage.floor_mib,
        });
        Hindrances {
            disk,
            missing_images: self.missing_images.missing(),
        }
    }

    /// Says that an image is on the engine; the frontend hears so at once where it was missing.
    pub fn image_is_there(&self, image: &str) {
        if self.missing_images.appeared(image) {
            self.heartbeat_wake.notify_one();
        }
    }

    /// Runs work that blocks on the disk, aside where it may take long. For the stand-in it may not: handing a few
    /// small files to another thread costs more than writing them.
    pub async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> std::io::Result<T> {
        if self.is_noop() {
            work()
        } else {
            on_disk(work).await
        }
    }

    /// What results on the spool have to outlive; the stand-in has none worth a sync.
    pub fn results_durability(&self) -> Durability {
        if self.is_noop() {
            Durability::ProcessCrash
        } else {
            Durability::HostCrash
        }
    }
}
