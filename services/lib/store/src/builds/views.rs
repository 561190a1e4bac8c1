//! What people and programs are shown of builds, tasks and attempts.

use millrace_domain::{
    AttemptId, AttemptState, BuildId, BuildState, BuilderId, ChrootName, FileName, Limit, Limits,
    Name, Outcome, Phase, Priority, ProjectId, RepositoryUrl, SourceUrl, Stage, StageTime, TaskId,
    TaskState,
};

use crate::row::Time;

/// Where the bytes of a source are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourcePlace {
    /// Fetched from outside by the builder.
    Url(SourceUrl),
    /// Uploaded, and kept by digest.
    Stored {
        /// SHA-256 in lower-case hexadecimal.
        sha256: String,
        /// In bytes.
        size: u64,
    },
}

/// A source of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceView {
    /// Position within the build, from 0.
    pub position: u32,
    /// What it is called.
    pub name: FileName,
    /// Where its bytes are.
    pub place: SourcePlace,
}

/// A build with everything that belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildView {
    /// The build.
    pub id: BuildId,
    /// The project's owner.
    pub owner: Name,
    /// The project's name.
    pub project: Name,
    /// The project.
    pub project_id: ProjectId,
    /// Who submitted it.
    pub submitter: Name,
    /// Where it is built, as submitted.
    pub chroots: Vec<ChrootName>,
    /// Extra repositories, as submitted.
    pub repositories: Vec<RepositoryUrl>,
    /// Limits of each package.
    pub limits: Limits,
    /// Disk space of each package's sandbox in MiB, where its builder gives less by itself.
    pub disk_mib: Option<u32>,
    /// How urgent it is.
    pub priority: Priority,
    /// When it was submitted.
    pub submitted_at: Time,
    /// When it was first asked to be cancelled.
    pub cancelled_at: Option<Time>,
    /// The build that it tries again.
    pub resubmit_of: Option<BuildId>,
    /// Its sources, in order.
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
    /// The task.
    pub id: TaskId,
    /// Its build.
    pub build_id: BuildId,
    /// Where it is built.
    pub chroot: ChrootName,
    /// Its state.
    pub state: TaskState,
    /// How it ended; present in terminal states only.
    pub outcome: Option<Outcome>,
    /// The limit that it was raised to after it was hit; then its other limits are its build's.
    pub raised_limit: Option<Limit>,
    /// Attempts that ended in a fault of ours.
    pub attempts_counted: u32,
    /// When it was made.
    pub created_at: Time,
    /// When a builder first claimed it.
    pub started_at: Option<Time>,
    /// When it ended.
    pub ended_at: Option<Time>,
    /// When its work was asked to stop.
    pub cancel_requested_at: Option<Time>,
    /// Its attempts, by number.
    pub attempts: Vec<AttemptView>,
}

/// A builder, as attempts name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuilderRef {
    /// The builder.
    pub id: BuilderId,
    /// Its name.
    pub name: String,
}

/// What an attempt was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptLimits {
    /// Memory and swap together, in MiB.
    pub memory_mib: u32,
    /// Wall time in seconds; nothing for attempts of before this was noted.
    pub timeout_seconds: Option<u32>,
    /// Disk space in MiB; nothing where its builder's own setting holds.
    pub disk_mib: Option<u32>,
}

/// An attempt with its packages.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptView {
    /// The attempt.
    pub id: AttemptId,
    /// Its task.
    pub task_id: TaskId,
    /// Its number within the task, from 1.
    pub number: u32,
    /// Its state.
    pub state: AttemptState,
    /// Why it was revoked.
    pub reason: Option<String>,
    /// Who claimed it.
    pub builder: Option<BuilderRef>,
    /// The poller of 2012 that claimed it in a builder's place.
    pub poller: Option<String>,
    /// How far the builder is.
    pub phase: Option<Phase>,
    /// The present or last stage.
    pub stage: Option<Stage>,
    /// Stages so far.
    pub stages: Vec<StageTime>,
    /// What it waited for at the builder's last word although its work was done, as a word.
    pub waits_for: Option<String>,
    /// How it ended; present when it finished or was lost.
    pub outcome: Option<Outcome>,
    /// Bytes of its log that are stored.
    pub log_size: u64,
    /// Digest of the chroot's image.
    pub image_digest: Option<String>,
    /// When that image was baked.
    pub image_baked_at: Option<Time>,
    /// What it was given.
    pub limits: AttemptLimits,
    /// When it was made.
    pub offered_at: Time,
    /// When it was claimed.
    pub claimed_at: Option<Time>,
    /// When it ended.
    pub ended_at: Option<Time>,
    /// Its packages; present when it finished.
    pub packages: Vec<PackageView>,
}

/// What became of one source in an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct PackageView {
    /// Position of the source within the build.
    pub position: u32,
    /// The source's name.
    pub source: FileName,
    /// How it ended.
    pub outcome: Outcome,
    /// Its files, by name.
    pub files: Vec<FileView>,
}

/// A file of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileView {
    /// Its name.
    pub name: FileName,
    /// In bytes.
    pub size: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}
