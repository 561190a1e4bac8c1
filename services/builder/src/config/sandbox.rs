//! Settings of sandboxes in the form that the rest of the builder reads. This file imports nothing of the builder, so
//! every other file may use it.

use std::path::PathBuf;

use clap::ValueEnum;
use millrace_sandbox::Profile;
use millrace_supervisor::LogCaps;

/// The kind of sandbox that builds run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SandboxKind {
    /// Containers in which mock builds
    Mock,
    /// A stand-in for benchmarks and tests: nothing is fetched and nothing is built
    Noop,
}

/// What every sandbox of this builder has in common.
#[derive(Debug, Clone)]
pub struct SandboxSettings {
    /// Privileges of the container.
    pub profile: Profile,
    /// Whether device nodes that are made in a sandbox can be opened; the self-test finds out.
    pub device_nodes: bool,
    /// Name of the engine's network that sandboxes join.
    pub network: String,
    /// Path of the statically linked supervisor program.
    pub supervisor: PathBuf,
    /// The largest source that is fetched and copied in, in bytes.
    pub max_source_bytes: u64,
    /// The operator's limits, beside the memory and the time that a build asks for.
    pub caps: SandboxCaps,
}

/// The operator's limits of each sandbox.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SandboxCaps {
    /// How much of a log is stored, and the size at which the build is ended.
    pub log: LogCaps,
    /// The longest time without output, in seconds; none means no limit.
    pub silence_seconds: Option<u32>,
    /// What a build may add to the sandbox's disk, in bytes; none means no limit.
    pub disk_bytes: Option<u64>,
    /// The most processes and threads together.
    pub pids: u32,
    /// Processors, which may be a fraction; none means all.
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
    /// These limits with more disk space for a task that needs it: `disk_mib` was requested by its build, or raised after
    /// an earlier attempt. Less than the operator's limit changes nothing.
    #[must_use]
    pub fn with_disk(self, disk_mib: Option<u32>) -> Self {
        let asked = disk_mib.map(|mib| u64::from(mib) << 20);
        Self {
            disk_bytes: self.disk_bytes.map(|own| own.max(asked.unwrap_or(0))),
            ..self
        }
    }

    /// The number of parallel jobs for make, where processors are limited; a fraction of a processor is rounded up.
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

/// The memory and the sandboxes that a builder offers to the frontend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Memory of this builder, in MiB.
    pub memory_mib: u32,
    /// Memory of all builders on the engine, in MiB.
    pub engine_budget_mib: u32,
    /// How many sandboxes this builder runs at once.
    pub sandboxes: u32,
}
