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
    /// Released and unclaimed orders for each sandbox that could start now.
    pub window_factor: u32,
    /// The most tasks released by one call.
    pub max_batch: u32,
    /// Waiting this long raises a task by one class of priority.
    pub age_seconds: u32,
    /// Tasks of one owner on offer or running at once, where its account says nothing else.
    pub owner_running: u32,
}

impl ReleaseConfig {
    /// Tasks released at once where nothing else is said. A look at a long backlog takes time for each task that it
    /// releases, and nothing else of those routes goes meanwhile: several smaller releases reach a free builder sooner
    /// than one large one (`make bench relay`).
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

/// A task that is being released, with all that its order says.
#[derive(Debug, Clone, PartialEq)]
pub struct ReleasedTask {
    /// The attempt made for it.
    pub attempt_id: AttemptId,
    /// That attempt's number, from 1.
    pub attempt_number: u32,
    /// The task.
    pub task_id: TaskId,
    /// Its build.
    pub build_id: BuildId,
    /// The project's owner.
    pub owner: Name,
    /// The project.
    pub project: Name,
    /// Where to build.
    pub chroot: ChrootRow,
    /// The memory class; with the architecture it names the route.
    pub memory_class: String,
    /// What to build, in order.
    pub sources: Vec<SourceView>,
    /// What earlier attempts made of some of them.
    pub finished: Vec<FinishedEarlier>,
    /// Extra repositories.
    pub repositories: Vec<RepositoryUrl>,
    /// Limits of each package.
    pub limits: Limits,
    /// Disk space of each package in MiB, where the task was raised to it.
    pub disk_mib: Option<u32>,
}

/// What one call released.
#[derive(Debug, Default)]
pub struct Release {
    /// The orders, the caller's to publish for ten seconds.
    pub entries: Vec<OutboxEntry>,
    /// Whether tasks were held back: they wait for room.
    pub held_back: bool,
}

/// A task that a builder was kept free for and that can start now.
#[derive(Debug, FromRow)]
pub(crate) struct Ready {
    pub(crate) task_id: i64,
    pub(crate) owner_id: i64,
    /// As many tasks as its owner may have under way.
    pub(crate) most: i64,
}
