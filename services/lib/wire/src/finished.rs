//! `finished/v1`: a builder's report of an attempt that ended.

use chrono::{DateTime, Utc};
use millrace_domain::{AttemptId, BuilderId, FileName, Outcome, StageTime, TaskId, Token};
use serde::{Deserialize, Serialize};

/// The report of an attempt. It carries the lease token, which alone authorises it.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FinishedV1 {
    /// Id of the attempt that ended.
    pub attempt_id: AttemptId,
    /// Id of the attempt's task.
    pub task_id: TaskId,
    /// Id of the builder that reports.
    pub builder_id: BuilderId,
    /// Token of the attempt's lease, as the claim gave it.
    pub lease_token: Token,
    /// How the attempt ended: the first unresolved package's outcome, or success.
    pub outcome: Outcome,
    /// One report for each package that was begun, in order.
    pub packages: Vec<PackageReport>,
    /// Stages of the whole attempt.
    pub stages: Vec<StageTime>,
    /// Size of the shipped log, in bytes.
    pub log_size: u64,
    /// Digest of the chroot's image; absent where the engine gives none.
    #[serde(default)]
    pub image_digest: Option<String>,
    /// When that image was baked, from its label; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_baked_at: Option<DateTime<Utc>>,
}

/// Outcome and files of one package.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PackageReport {
    /// Position of the source within the build, from 0.
    pub position: u32,
    /// Name of the source, as the job message gave it.
    pub source: FileName,
    /// How the package's last try ended.
    pub outcome: Outcome,
    /// Its files; all must be in the result store before the report is accepted.
    pub files: Vec<ManifestFile>,
}

/// A file of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ManifestFile {
    /// Name of the file, unique within its package.
    pub name: FileName,
    /// Size of the file, in bytes.
    pub size: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}
