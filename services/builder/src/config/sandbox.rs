//! What the settings say of sandboxes, as the rest of the builder reads it. These types import nothing of the builder,
//! so every part may use them.

use std::path::PathBuf;

use clap::ValueEnum;
use millrace_sandbox::Profile;
use millrace_supervisor::LogCaps;

/// What sandboxes are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SandboxKind {
    /// Containers in which mock builds
    Mock,
    /// A stand-in for benches: nothing is fetched and nothing is built
    Noop,
}

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

/// What a builder offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Memory of this builder, in MiB.
    pub memory_mib: u32,
    /// Memory of all builders on the engine, in MiB.
    pub engine_budget_mib: u32,
    /// Sandboxes of this builder.
    pub sandboxes: u32,
}
