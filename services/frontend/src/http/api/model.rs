//! The API's objects. Scripts rely on these names; a field is added, never renamed.

use chrono::{DateTime, Utc};
use millrace_chassis::path_segment;
use millrace_domain::{
    AttemptId, AttemptState, BuildId, BuildState, BuilderId, ChrootName, FileName, Limit, Limits,
    Name, Outcome, Phase, Priority, RepositoryUrl, Stage, StageTime, TaskId, TaskState,
};
use millrace_store::{AttemptView, BuildView, PackageView, SourcePlace, SourceView, TaskView};
use serde::Serialize;
use utoipa::ToSchema;

use crate::config::links::Links;
use crate::http::api::wait_reason::WaitReason;

/// A page of a list, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// What to give as `before` for the next page; null on the last one.
    pub next: Option<i64>,
}

/// A whole list.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T> {
    /// The entries.
    pub items: Vec<T>,
}

/// One request to build.
#[derive(Debug, Serialize, ToSchema)]
pub struct Build {
    /// The build's number.
    pub id: BuildId,
    /// The first present of its tasks' states.
    pub state: BuildState,
    /// The project's owner.
    pub owner: Name,
    /// The project.
    pub project: Name,
    /// When it was submitted.
    pub submitted_at: DateTime<Utc>,
    /// When its cancel was asked for.
    pub cancelled_at: Option<DateTime<Utc>>,
    /// The build that it repeats.
    pub resubmit_of: Option<BuildId>,
    /// Where it is built, frozen at submission.
    pub chroots: Vec<ChrootName>,
    /// Extra repositories, frozen at submission.
    pub repositories: Vec<RepositoryUrl>,
    /// Limits of each package.
    pub limits: Limits,
    /// Disk space of each package's sandbox in MiB, where its builder gives less by itself.
    pub disk_mib: Option<u32>,
    /// How urgent it is.
    pub priority: Priority,
    /// What is built, in this order.
    pub sources: Vec<Source>,
    /// One for each chroot.
    pub tasks: Vec<Task>,
}

/// One source package of a build.
#[derive(Debug, Serialize, ToSchema)]
pub struct Source {
    /// Position within the build, from 0.
    pub position: u32,
    /// Its name in logs and results.
    pub name: FileName,
    /// Where it is fetched from, or where the uploaded file can be read.
    pub url: String,
    /// SHA-256 of an uploaded file.
    pub sha256: Option<String>,
    /// Size of an uploaded file in bytes.
    pub size: Option<u64>,
}

/// One build in one chroot.
#[derive(Debug, Serialize, ToSchema)]
pub struct Task {
    /// The task's number.
    pub id: TaskId,
    /// Its build.
    pub build_id: BuildId,
    /// Where it is built.
    pub chroot: ChrootName,
    /// How far it is.
    pub state: TaskState,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// The limit that it was raised to after it was hit, in a project that allows it; this happens once.
    pub raised_limit: Option<Limit>,
    /// Tries that ended in a fault of ours; the task fails with the third.
    pub attempts_counted: u32,
    /// Tries, oldest first.
    pub attempts: Vec<Attempt>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was first claimed.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Whether its builder is told to stop.
    pub cancel_requested: bool,
    /// Why it waits; null unless it is `waiting`, and in the answer to a submission.
    pub wait: Option<WaitReason>,
}

/// One try of a task by one builder.
#[derive(Debug, Serialize, ToSchema)]
pub struct Attempt {
    /// Names it everywhere.
    pub id: AttemptId,
    /// Its number within the task, from 1.
    pub number: u32,
    /// The builder's name, once it was claimed.
    pub builder: Option<String>,
    /// The poller of 2012 that has it in a builder's place.
    pub poller: Option<String>,
    /// The builder's id.
    pub builder_id: Option<BuilderId>,
    /// How far it is.
    pub state: AttemptState,
    /// Why it was taken back.
    pub reason: Option<String>,
    /// How far its builder is.
    pub phase: Option<Phase>,
    /// The present stage.
    pub stage: Option<Stage>,
    /// What it waits for although its work is done; null when it waits for nothing.
    pub waits_for: Option<AttemptWait>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// What became of each package.
    pub packages: Vec<Package>,
    /// Stages so far.
    pub stages: Vec<StageTime>,
    /// Size of the stored log in bytes.
    pub log_size: u64,
    /// Digest of the chroot's image.
    pub image_digest: Option<String>,
    /// When that image was baked; null where that is not known.
    pub image_baked_at: Option<DateTime<Utc>>,
    /// What it was given.
    pub limits: AttemptLimits,
    /// When it was made.
    pub offered_at: DateTime<Utc>,
    /// When a builder claimed it.
    pub claimed_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
}

/// What an attempt was given.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttemptLimits {
    /// Memory and swap together of each package, in MiB.
    pub memory_mib: u32,
    /// Wall time of each package in seconds; null for attempts of before this was noted.
    pub timeout_seconds: Option<u32>,
    /// Disk space of each package in MiB; null where its builder's own setting holds.
    pub disk_mib: Option<u32>,
}

/// What an attempt waits for whose work is done.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttemptWait {
    /// What, as a word for scripts: `spool_space` or `results_space`.
    pub reason: String,
    /// The same in a sentence.
    pub message: String,
}

/// What became of one package of an attempt.
#[derive(Debug, Serialize, ToSchema)]
pub struct Package {
    /// Position of its source.
    pub position: u32,
    /// Its source's name.
    pub source: FileName,
    /// How it ended.
    pub outcome: Outcome,
    /// Its files.
    pub files: Vec<ResultFile>,
}

/// One file of a result.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResultFile {
    /// The file's name.
    pub name: FileName,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
    /// Where it can be read.
    pub url: String,
}

impl Build {
    /// The object for a stored build.
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

impl Task {
    /// The object for a stored task.
    pub fn new(view: TaskView, links: &Links) -> Self {
        Self {
            id: view.id,
            build_id: view.build_id,
            chroot: view.chroot,
            state: view.state,
            outcome: view.outcome,
            raised_limit: view.raised_limit,
            attempts: view
                .attempts
                .into_iter()
                .map(|attempt| Attempt::new(attempt, links))
                .collect(),
            attempts_counted: view.attempts_counted,
            created_at: view.created_at,
            started_at: view.started_at,
            ended_at: view.ended_at,
            cancel_requested: view.cancel_requested_at.is_some(),
            wait: None,
        }
    }
}

impl Attempt {
    /// The object for a stored attempt.
    pub fn new(view: AttemptView, links: &Links) -> Self {
        let (builder, builder_id) = view.builder.map(|b| (b.name, b.id)).unzip();
        Self {
            id: view.id,
            number: view.number,
            builder,
            builder_id,
            poller: view.poller,
            state: view.state,
            reason: view.reason,
            phase: view.phase,
            stage: view.stage,
            waits_for: view
                .waits_for
                .filter(|_| view.state == AttemptState::Claimed)
                .map(AttemptWait::new),
            outcome: view.outcome,
            packages: view
                .packages
                .into_iter()
                .map(|package| Package::new(view.id, package, links))
                .collect(),
            stages: view.stages,
            log_size: view.log_size,
            image_digest: view.image_digest,
            image_baked_at: view.image_baked_at,
            limits: AttemptLimits {
                memory_mib: view.limits.memory_mib,
                timeout_seconds: view.limits.timeout_seconds,
                disk_mib: view.limits.disk_mib,
            },
            offered_at: view.offered_at,
            claimed_at: view.claimed_at,
            ended_at: view.ended_at,
        }
    }
}

impl AttemptWait {
    fn new(reason: String) -> Self {
        let message = match reason.as_str() {
            "spool_space" => {
                "waits for space on its builder's spool disk; the results are kept, nothing is built again"
            }
            "results_space" => {
                "waits for space in the result store; the results are kept on its builder, nothing is built again"
            }
            _ => "waits for something that this frontend does not know of",
        };
        Self {
            message: message.to_owned(),
            reason,
        }
    }
}

impl Package {
    fn new(attempt: AttemptId, view: PackageView, links: &Links) -> Self {
        let position = view.position;
        let file_url = |name: &FileName| {
            let name = path_segment(name.as_str());
            links.to(&format!(
                "/api/v1/attempts/{attempt}/files/{position}/{name}"
            ))
        };
        Self {
            position,
            source: view.source,
            outcome: view.outcome,
            files: view
                .files
                .into_iter()
                .map(|file| ResultFile {
                    url: file_url(&file.name),
                    name: file.name,
                    size: file.size,
                    sha256: file.sha256,
                })
                .collect(),
        }
    }
}
