//! What all parts of a running builder share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millrace_bus::Publisher;
use millrace_chassis::{CancellationToken, Fetcher, Shutdown};
use millrace_domain::BuilderId;
use millrace_sandbox::{Profile, Runtime};
use millrace_supervisor::LogCaps;
use millrace_wire::{DiskShortage, Hindrances};
use tokio::sync::{Notify, Semaphore};

use crate::attempt_registry::Registry;
use crate::engine::missing_images::Images;
use crate::engine::room::Room;
use crate::engine::self_test::SelfTests;
use crate::frontend::client::Frontend;
use crate::spool::Spool;
use crate::spool::atomic_file::Outlives;
use crate::spool::disk_space::Disk;

/// How sandboxes are made.
#[derive(Debug, Clone)]
pub struct SandboxSettings {
    /// What they may.
    pub profile: Profile,
    /// Device nodes made in them can be opened.
    pub device_nodes: bool,
    /// The network they join.
    pub network: String,
    /// The static supervisor.
    pub supervisor: PathBuf,
    /// The largest source, in bytes.
    pub max_source_bytes: u64,
    /// What each may use, beside what its build asks for.
    pub caps: SandboxCaps,
}

/// The operator's limits on each sandbox.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SandboxCaps {
    /// Limits on the log.
    pub log: LogCaps,
    /// The longest time without output, in seconds; none means no limit.
    pub silence_seconds: Option<u32>,
    /// What a build may add to the sandbox's disk, in bytes; none means no limit.
    pub disk_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: u32,
    /// Processors; none means all.
    pub cpus: Option<f64>,
}

impl Default for SandboxCaps {
    fn default() -> Self {
        Self {
            log: LogCaps::default(),
            silence_seconds: None,
            disk_bytes: None,
            pids: 8192,
            cpus: None,
        }
    }
}

impl SandboxCaps {
    /// The same, with disk space for a task that needs more than builders give by themselves: its build asked for it, or
    /// it was raised.
    #[must_use]
    pub fn with_disk(self, disk_mib: Option<u32>) -> Self {
        let asked = disk_mib.map(|mib| u64::from(mib) << 20);
        Self {
            disk_bytes: self.disk_bytes.map(|own| own.max(asked.unwrap_or(0))),
            ..self
        }
    }

    /// As many jobs as make may run, where processors are limited: part of a processor counts as one.
    pub fn make_jobs(&self) -> Option<u32> {
        // Settings are checked to be from 0.1 to 4096.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float cast saturates"
        )]
        self.cpus.map(|cpus| cpus.ceil().max(1.0) as u32)
    }
}

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
    pub frontend: Frontend,
    /// The broker.
    pub publisher: Publisher,
    /// Fetches from outside.
    pub fetcher: Fetcher,
    /// How long a fetch that may succeed later is tried again.
    pub fetch_patience: Duration,
    /// The attempts on the disk.
    pub spool: Spool,
    /// Whether the disk has space.
    pub disk: Disk,
    /// Images that the engine lacks.
    pub images: Images,
    /// How long work that is done waits for space on the disk.
    pub spool_patience: Duration,
    /// The room.
    pub room: Room,
    /// Attempts that this builder has.
    pub registry: Registry,
    /// Self-tests that the frontend asks for.
    pub self_tests: SelfTests,
    /// Wakes the heartbeat.
    pub nudge: Arc<Notify>,
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
            missing_images: self.images.missing(),
        }
    }

    /// Says that an image is on the engine; the frontend hears so at once where it was missing.
    pub fn image_is_there(&self, image: &str) {
        if self.images.appeared(image) {
            self.nudge.notify_one();
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
    pub fn results_outlive(&self) -> Outlives {
        if self.is_noop() {
            Outlives::Process
        } else {
            Outlives::Host
        }
    }
}

/// Runs work that blocks on the disk in a thread for such work.
pub async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
