//! Builds, tasks, attempts, packages and files as the API shows them.

use millrace_domain::{
    AttemptId, AttemptState, BuildId, BuildState, BuilderId, ChrootName, FileName, Limit, Limits,
    Name, Outcome, Phase, Priority, ProjectId, RepositoryUrl, SourceUrl, Stage, StageTime, TaskId,
    TaskState,
};

use crate::row::Time;

/// Where the bytes of a source package are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourcePlace {
    /// At an outside address, from which the builder fetches it.
    Url(SourceUrl),
    /// In the result store, by digest.
    Stored {
        /// SHA-256 in lower-case hexadecimal.
        sha256: String,
        /// Size in bytes.
        size: u64,
    },
}

/// A source package of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceView {
    /// Position within the build, from 0.
    pub position: u32,
    /// File name of the source package.
    pub name: FileName,
    /// Uploaded, or at an outside address.
    pub place: SourcePlace,
}

/// A build with its sources, tasks, attempts, packages and files.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildView {
    /// The build's number, as people use it.
    pub id: BuildId,
    /// Name of the project's owner.
    pub owner: Name,
    /// The project's name, without its owner.
    pub project: Name,
    /// Key of the project's row.
    pub project_id: ProjectId,
    /// Name of the account that submitted it.
    pub submitter: Name,
    /// Chroots, in the order submitted.
    pub chroots: Vec<ChrootName>,
    /// Extra repositories, as submitted.
    pub repositories: Vec<RepositoryUrl>,
    /// Limits of each package.
    pub limits: Limits,
    /// Disk space of each package's sandbox in MiB; it counts where it is more than the builder's own setting.
    pub disk_mib: Option<u32>,
    /// Priority class as submitted; waiting may raise it.
    pub priority: Priority,
    /// When it was submitted.
    pub submitted_at: Time,
    /// When it was first asked to be cancelled.
    pub cancelled_at: Option<Time>,
    /// The build that this one repeats.
    pub resubmit_of: Option<BuildId>,
    /// Source packages in the order in which they are built.
    pub sources: Vec<SourceView>,
    /// Its tasks, in order of its chroots.
    pub tasks: Vec<TaskView>,
}

impl BuildView {
    /// The build's state, computed from its tasks.
    pub fn state(&self) -> BuildState {
        BuildState::of(self.tasks.iter().map(|task| task.state))
    }
}

/// A task with its attempts.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskView {
    /// The task's number, unique among all tasks.
    pub id: TaskId,
    /// The build that it belongs to.
    pub build_id: BuildId,
    /// The chroot in which it is built.
    pub chroot: ChrootName,
    /// Waiting, queued, running, or how it ended.
    pub state: TaskState,
    /// Outcome; present in terminal states only.
    pub outcome: Option<Outcome>,
    /// The limit that was raised for the retry after it had been hit; the other limits stay those of the build.
    pub raised_limit: Option<Limit>,
    /// Attempts that ended in an infrastructure fault; at most three are made.
    pub attempts_counted: u32,
    /// When it was stored, with its build.
    pub created_at: Time,
    /// When a builder first claimed it.
    pub started_at: Option<Time>,
    /// When it ended; none while it has not.
    pub ended_at: Option<Time>,
    /// When its builder was first asked to stop, because the build was cancelled.
    pub cancel_requested_at: Option<Time>,
    /// Its attempts, by number.
    pub attempts: Vec<AttemptView>,
}

/// The builder that claimed an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuilderRef {
    /// Identity of the builder.
    pub id: BuilderId,
    /// The builder's name, for people.
    pub name: String,
}

/// Limits of each package in an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptLimits {
    /// Memory and swap together, in MiB.
    pub memory_mib: u32,
    /// Wall time in seconds; none for attempts that are older than this column.
    pub timeout_seconds: Option<u32>,
    /// Disk space in MiB; none where the builder's own setting applies.
    pub disk_mib: Option<u32>,
}

/// An attempt with its packages.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptView {
    /// Identity of the attempt (`UUIDv7`), the same in messages and logs.
    pub id: AttemptId,
    /// The task that it is an attempt of.
    pub task_id: TaskId,
    /// Number within the task, from 1.
    pub number: u32,
    /// Offered, claimed, finished, lost or revoked.
    pub state: AttemptState,
    /// Why it was revoked, as a sentence.
    pub reason: Option<String>,
    /// The builder that claimed it; none while it is on offer, and for a poller's attempt.
    pub builder: Option<BuilderRef>,
    /// The poller of 2012 that claimed it in a builder's place.
    pub poller: Option<String>,
    /// Phase of the builder's work, by its last heartbeat.
    pub phase: Option<Phase>,
    /// Stage of the sandbox, by the last heartbeat; the last one once it has ended.
    pub stage: Option<Stage>,
    /// Stages with their times, so far.
    pub stages: Vec<StageTime>,
    /// What finished work waits for, by the builder's last heartbeat; a word such as `spool_space`.
    pub waits_for: Option<String>,
    /// Outcome; present when it finished or was lost.
    pub outcome: Option<Outcome>,
    /// Size of the stored log in bytes.
    pub log_size: u64,
    /// Digest of the chroot's image that its sandboxes were made from.
    pub image_digest: Option<String>,
    /// When that image was baked.
    pub image_baked_at: Option<Time>,
    /// Limits that applied to each of its packages.
    pub limits: AttemptLimits,
    /// When it was created and offered to builders.
    pub offered_at: Time,
    /// When a builder or poller claimed it.
    pub claimed_at: Option<Time>,
    /// When it ended; none while it has not.
    pub ended_at: Option<Time>,
    /// Results per source package; present when it finished.
    pub packages: Vec<PackageView>,
}

/// Result of one source package in an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct PackageView {
    /// Position of the source within the build.
    pub position: u32,
    /// File name of the source package.
    pub source: FileName,
    /// Outcome of this package.
    pub outcome: Outcome,
    /// Result files, ordered by name.
    pub files: Vec<FileView>,
}

/// One file of a package's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileView {
    /// File name, without a folder.
    pub name: FileName,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}
