//! What the parts of a running builder share. Parts that need only some of it take those.

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

/// The shared parts of one builder.
pub struct Context {
    /// The builder's id, from its identity folder.
    pub builder: BuilderId,
    /// The builder's name as people see it (`MILLRACE_BUILDER_NAME`).
    pub name: String,
    /// Profile, network, supervisor and limits of every sandbox.
    pub sandboxes: SandboxSettings,
    /// The container engine, or the stand-in that runs nothing.
    pub runtime: Runtime,
    /// Client of the frontend's `/builder/v1`.
    pub frontend: FrontendClient,
    /// Publishes reports to the broker.
    pub publisher: Publisher,
    /// Fetches sources by URL, with the guard against internal addresses.
    pub fetcher: Fetcher,
    /// How long a fetch that failed for a transient reason is tried again.
    pub fetch_retry_time: Duration,
    /// The attempts on this builder's disk.
    pub spool: Spool,
    /// Whether the spool's disk has space.
    pub disk: SpoolSpace,
    /// Images of chroots that jobs need and the engine does not have.
    pub missing_images: MissingImages,
    /// How long finished work waits for space on the spool's disk.
    pub spool_wait_limit: Duration,
    /// Memory and sandboxes that are free.
    pub room: Room,
    /// The attempts that this builder holds.
    pub registry: AttemptRegistry,
    /// Self-tests that the frontend asks for, and the last that passed.
    pub self_tests: SelfTests,
    /// Makes the heartbeat send at once.
    pub heartbeat_wake: Arc<Notify>,
    /// One permit for each file that may be uploaded at the same time.
    pub uploads: Semaphore,
    /// How far the stop of this process is.
    pub shutdown: Shutdown,
    /// Cancelled when a stopping builder waits neither for the frontend nor for the broker any more.
    pub leaving: CancellationToken,
}

impl Context {
    /// Whether sandboxes are the stand-in that runs nothing. Then nothing is fetched and nothing is collected.
    pub fn is_noop(&self) -> bool {
        matches!(self.runtime, Runtime::Noop(_))
    }

    /// What keeps this builder from taking some or all jobs now, as heartbeats and declined jobs report it.
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

    /// Records that an image is on the engine. If it was missing, the heartbeat reports that at once.
    pub fn record_image_present(&self, image: &str) {
        if self.missing_images.appeared(image) {
            self.heartbeat_wake.notify_one();
        }
    }

    /// Runs work that blocks on the disk in a thread of its own. With the stand-in it runs at once: it writes a few small
    /// files, and handing them to another thread costs more than writing them.
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

    /// What results in the spool have to survive. The stand-in's results are not worth a sync.
    pub fn results_durability(&self) -> Durability {
        if self.is_noop() {
            Durability::ProcessCrash
        } else {
            Durability::HostCrash
        }
    }
}
