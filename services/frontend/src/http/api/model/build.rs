//! A build and its sources.

use chrono::{DateTime, Utc};
use millrace_domain::{
    BuildId, BuildState, ChrootName, FileName, Limits, Name, Priority, RepositoryUrl,
};
use millrace_store::{BuildView, SourcePlace, SourceView};
use serde::Serialize;
use utoipa::ToSchema;

use crate::config::links::Links;
use crate::http::api::model::task::Task;

/// A build: one request to build one or more source packages in one or more chroots.
#[derive(Debug, Serialize, ToSchema)]
pub struct Build {
    /// Number of the build, unique in this installation and never used again.
    pub id: BuildId,
    /// Computed from the states of its tasks: the first of `running`, `queued`, `waiting`, `failed`, `cancelled`,
    /// `succeeded` that a task has.
    pub state: BuildState,
    /// Account that owns the project; the scheduler shares builders fairly between owners.
    pub owner: Name,
    /// Name of the project, unique for its owner.
    pub project: Name,
    /// When the build was stored, or when it was submitted at the site it was imported from.
    pub submitted_at: DateTime<Utc>,
    /// When a cancel was first asked for; null when none was. Running tasks may end a little later.
    pub cancelled_at: Option<DateTime<Utc>>,
    /// Number of the earlier build that this one repeats; null for a build of its own.
    pub resubmit_of: Option<BuildId>,
    /// Chroots it is built in, one task each; fixed at submission.
    pub chroots: Vec<ChrootName>,
    /// Extra package repositories, available while build dependencies are installed; fixed at submission.
    pub repositories: Vec<RepositoryUrl>,
    /// Limits on memory and wall time of each package.
    pub limits: Limits,
    /// Disk space asked for each package's sandbox, in MiB; a builder whose own setting is larger gives that. Null when
    /// the request named none.
    pub disk_mib: Option<u32>,
    /// Priority class as submitted. The scheduler raises it by one class for each step of time that a task waits.
    pub priority: Priority,
    /// Source packages; they are built in this order.
    pub sources: Vec<Source>,
    /// Tasks, one for each chroot, in the order of `chroots`.
    pub tasks: Vec<Task>,
}

/// A source package of a build.
#[derive(Debug, Serialize, ToSchema)]
pub struct Source {
    /// Position within the build, from 0.
    pub position: u32,
    /// File name of the source package, as logs and results show it.
    pub name: FileName,
    /// Address that the builder fetches it from; for an uploaded file, the address where it can be read.
    pub url: String,
    /// SHA-256 of an uploaded file in lower-case hexadecimal; null for a source that is fetched from a URL.
    pub sha256: Option<String>,
    /// Size of an uploaded file in bytes; null for a source that is fetched from a URL.
    pub size: Option<u64>,
}

impl Build {
    /// Converts a stored build, without the reasons why its tasks wait.
    pub fn new(view: BuildView, links: &Links) -> Self {
        let sources = view
            .sources
            .iter()
            .map(|source| Source::new(source, &view, links))
            .collect();
        Self {
            id: view.id,
            state: view.state(),
            owner: view.owner,
            project: view.project,
            submitted_at: view.submitted_at,
            cancelled_at: view.cancelled_at,
            resubmit_of: view.resubmit_of,
            chroots: view.chroots,
            repositories: view.repositories,
            limits: view.limits,
            disk_mib: view.disk_mib,
            priority: view.priority,
            sources,
            tasks: view
                .tasks
                .into_iter()
                .map(|task| Task::new(task, links))
                .collect(),
        }
    }
}

impl Source {
    fn new(source: &SourceView, build: &BuildView, links: &Links) -> Self {
        let (url, sha256, size) = match &source.place {
            SourcePlace::Url(url) => (url.to_string(), None, None),
            SourcePlace::Stored { sha256, size } => (
                links.source(&build.owner, &build.project, sha256, &source.name),
                Some(sha256.clone()),
                Some(*size),
            ),
        };
        Self {
            position: source.position,
            name: source.name.clone(),
            url,
            sha256,
            size,
        }
    }
}
