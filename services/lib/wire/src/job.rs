//! `job/v1`: everything a builder needs for one attempt.

use millrace_domain::{
    AttemptId, BuildId, ChrootName, FileName, Limits, Name, Outcome, RepositoryUrl, SourceUrl,
    TaskId,
};
use serde::{Deserialize, Serialize};

use crate::finished::ManifestFile;

/// A job message: offers one attempt to builders. Never edited after it was published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct JobV1 {
    /// The attempt that this message offers.
    pub attempt_id: AttemptId,
    /// The attempt's number within its task, from 1.
    pub attempt_number: u32,
    /// Id of the attempt's task.
    pub task_id: TaskId,
    /// The build the task belongs to.
    pub build_id: BuildId,
    /// Name of the account that owns the project.
    pub owner: Name,
    /// Name of the project, unique for its owner.
    pub project: Name,
    /// The chroot to build in.
    pub chroot: JobChroot,
    /// What to build, in this order.
    pub sources: Vec<JobSource>,
    /// Extra repositories, frozen at submission.
    pub repositories: Vec<RepositoryUrl>,
    /// Limits of each package.
    pub limits: Limits,
    /// Least disk space of each package in MiB, where the build asked for it or the task's limit was raised; a builder
    /// whose own setting is larger gives that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_mib: Option<u32>,
    /// Whether the build may use the network throughout.
    #[serde(default)]
    pub network: bool,
}

/// A chroot as a builder needs it: names only, nothing that is executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct JobChroot {
    /// Name of the chroot, such as `fedora-44-x86_64`.
    pub name: ChrootName,
    /// The image with the initialised chroot.
    pub image: String,
    /// The name of mock's configuration inside the image.
    pub mock_root: ChrootName,
}

/// One source of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct JobSource {
    /// Position within the build, from 0.
    pub position: u32,
    /// Name of the source in logs and results.
    pub name: FileName,
    /// Where its bytes are.
    pub origin: SourceOrigin,
    /// Size in bytes, where known.
    #[serde(default)]
    pub size: Option<u64>,
    /// Result of an earlier attempt of the task, to be reused rather than built again. A builder that cannot get the files
    /// builds the package again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<FinishedBefore>,
}

/// A package that an earlier attempt of the task finished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FinishedBefore {
    /// Id of the attempt that built the package and stored its files.
    pub attempt_id: AttemptId,
    /// How the package ended.
    pub outcome: Outcome,
    /// Its files, in the result store.
    pub files: Vec<ManifestFile>,
}

/// Where the bytes of a source are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum SourceOrigin {
    /// Uploaded: fetched from the frontend by digest.
    Stored {
        /// SHA-256 in lower-case hexadecimal.
        sha256: String,
    },
    /// Fetched from outside by the guarded client.
    Url {
        /// URL of the source package.
        url: SourceUrl,
    },
}
