//! Settings for baking the images of chroots.

use std::time::Duration;

use millrace_sandbox::EngineInfo;

use crate::config::sandbox::Offer;

/// Least and most memory of a bake in MiB where the operator sets none; between them, it is what the builds' budget leaves
/// of the engine's memory.
const MEMORY_MIB: (u64, u64) = (512, 2048);

/// Settings for baking, as given on the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct BakeArgs {
    /// Age at which a chroot's image is baked again in the background, in seconds (up to a tenth more, so that images do not
    /// fall due together); 0 means only on demand
    #[arg(
        long = "bake-age-seconds",
        env = "MILLRACE_BAKE_AGE_SECONDS",
        default_value_t = 86_400,
        value_name = "SECONDS"
    )]
    pub age_seconds: u32,
    /// Memory limit of a bake, in MiB, in addition to the memory of builds [default: what builds leave of the engine's
    /// memory, from 512 to 2048]
    #[arg(
        long = "bake-memory-mb",
        env = "MILLRACE_BAKE_MEMORY_MB",
        value_name = "MIB",
        value_parser = clap::value_parser!(u32).range(128..)
    )]
    pub memory_mb: Option<u32>,
    /// Time limit of a bake, in seconds; a bake that takes longer has failed
    #[arg(
        long = "bake-timeout-seconds",
        env = "MILLRACE_BAKE_TIMEOUT_SECONDS",
        default_value_t = 1800,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(10..=86_400)
    )]
    pub timeout_seconds: u32,
    /// Pause before a failed bake is tried again, in seconds; it doubles with each failure, up to an hour
    #[arg(
        long = "bake-retry-seconds",
        env = "MILLRACE_BAKE_RETRY_SECONDS",
        default_value_t = 30,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(1..=3600)
    )]
    pub retry_seconds: u32,
}

/// Settings for baking on the engine that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BakeSettings {
    /// Age at which an image is baked again; none means only on demand.
    pub age: Option<Duration>,
    /// Memory limit of a bake, in bytes.
    pub memory_bytes: u64,
    /// Time limit of a bake.
    pub limit: Duration,
    /// Pause before the first retry of a failed bake, before jitter.
    pub retry: Duration,
}

impl BakeArgs {
    /// The settings for an engine, of whose memory the builders together use `offer.engine_budget_mib`.
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
