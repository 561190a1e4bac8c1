//! What a release is given and what it returns; plain types that the other files of the scheduler share.

use millrace_domain::{AttemptId, BuildId, Limits, Name, RepositoryUrl, TaskId};
use sqlx::FromRow;

use crate::attempts::finished_packages::FinishedEarlier;
use crate::builds::views::SourceView;
use crate::chroots::ChrootRow;
use crate::outbox::OutboxEntry;

/// How much to release.
#[derive(Debug, Clone, Copy)]
pub struct ReleaseConfig {
    /// Released and unclaimed tasks for each sandbox that could start now.
    pub window_factor: u32,
    /// The most tasks released by one call.
    pub max_batch: u32,
    /// After waiting this long a task counts as one class of priority higher.
    pub age_seconds: u32,
    /// Tasks of one owner on offer or running at once, unless its account has a limit of its own.
    pub owner_running: u32,
}

impl ReleaseConfig {
    /// Default of `max_batch`. With a long backlog a release takes time for each task, and its routes are locked
    /// meanwhile: several small releases reach a free builder sooner than one large one (`make bench relay`).
    pub const BATCH: u32 = 50;
}

impl Default for ReleaseConfig {
    fn default() -> Self {
        Self {
            window_factor: 1,
            max_batch: Self::BATCH,
            age_seconds: 3600,
            owner_running: 100_000,
        }
    }
}

/// A task that is being released, with all that its job message says.
#[derive(Debug, Clone, PartialEq)]
pub struct ReleasedTask {
    /// The new attempt, which the job message offers to builders.
    pub attempt_id: AttemptId,
    /// That attempt's number, from 1.
    pub attempt_number: u32,
    /// The task that the attempt belongs to.
    pub task_id: TaskId,
    /// The build that the task belongs to.
    pub build_id: BuildId,
    /// Name of the account that owns the project.
    pub owner: Name,
    /// Name of the project, without its owner.
    pub project: Name,
    /// The chroot to build in, with its image.
    pub chroot: ChrootRow,
    /// The memory class; with the architecture it names the route.
    pub memory_class: String,
    /// What to build, in order.
    pub sources: Vec<SourceView>,
    /// Packages that earlier attempts finished, which the builder reuses.
    pub finished: Vec<FinishedEarlier>,
    /// Repositories of the build besides those of the chroot.
    pub repositories: Vec<RepositoryUrl>,
    /// Limits of each package, a raised one included.
    pub limits: Limits,
    /// Disk space of each package in MiB, where the build asks for it or the task was raised to it.
    pub disk_mib: Option<u32>,
}

/// What one call released.
#[derive(Debug, Default)]
pub struct Release {
    /// Rows of the outbox, leased to the caller for ten seconds: it publishes them.
    pub entries: Vec<OutboxEntry>,
    /// Whether waiting tasks were held back for lack of room or by their owners' limits.
    pub held_back: bool,
}

/// A task that a reservation was made for and that can start now.
#[derive(Debug, FromRow)]
pub(crate) struct Ready {
    pub(crate) task_id: i64,
    pub(crate) owner_id: i64,
    /// The most tasks that its owner may have on offer or running.
    #[sqlx(rename = "most")]
    pub(crate) owner_limit: i64,
}
