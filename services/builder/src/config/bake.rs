//! Settings of the images of chroots.

use std::time::Duration;

use millrace_sandbox::EngineInfo;

use crate::config::sandbox::Offer;

/// Memory of a bake in MiB where the operator sets none: what the builds' budget leaves of the engine, within these.
const MEMORY_MIB: (u64, u64) = (512, 2048);

/// How the images of chroots are baked.
#[derive(Debug, Clone, clap::Args)]
pub struct BakeArgs {
    /// A chroot's image is baked anew, in the background, when it is about so old, in seconds; 0: only on demand
    #[arg(
        long = "bake-age-seconds",
        env = "MILLRACE_BAKE_AGE_SECONDS",
        default_value_t = 86_400,
        value_name = "SECONDS"
    )]
    pub age_seconds: u32,
    /// Memory of a bake, in MiB; it is no part of what builds may use [default: what is left of the engine, 512 to 2048]
    #[arg(
        long = "bake-memory-mb",
        env = "MILLRACE_BAKE_MEMORY_MB",
        value_name = "MIB",
        value_parser = clap::value_parser!(u32).range(128..)
    )]
    pub memory_mb: Option<u32>,
    /// A bake that takes longer has failed, in seconds
    #[arg(
        long = "bake-timeout-seconds",
        env = "MILLRACE_BAKE_TIMEOUT_SECONDS",
        default_value_t = 1800,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(10..=86_400)
    )]
    pub timeout_seconds: u32,
    /// A bake that failed is tried again: the first time after about so many seconds, then at a growing distance of up to an
    /// hour
    #[arg(
        long = "bake-retry-seconds",
        env = "MILLRACE_BAKE_RETRY_SECONDS",
        default_value_t = 30,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(1..=3600)
    )]
    pub retry_seconds: u32,
}

/// The same, for the engine that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BakeSettings {
    /// The age of an image at which it is baked anew; none: only on demand.
    pub age: Option<Duration>,
    /// Memory of a bake, in bytes.
    pub memory_bytes: u64,
    /// How long a bake may take.
    pub limit: Duration,
    /// About how long after a failure it is tried again the first time.
    pub retry: Duration,
}

impl BakeArgs {
    /// Settings for an engine of which builders use as much as they offer.
    pub fn settings(&self, info: &EngineInfo, offer: Offer) -> BakeSettings {
        let left = (info.memory_bytes >> 20).saturating_sub(offer.engine_budget_mib.into());
        let memory_mib = self
            .memory_mb
            .map_or(left.clamp(MEMORY_MIB.0, MEMORY_MIB.1), u64::from);
        let seconds = |count: u32| Duration::from_secs(count.into());
        BakeSettings {
            age: (self.age_seconds > 0).then(|| seconds(self.age_seconds)),
            memory_bytes: memory_mib << 20,
            limit: seconds(self.timeout_seconds),
            retry: seconds(self.retry_seconds),
        }
    }
}
