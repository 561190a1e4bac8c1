//! An attempt at a task, with its packages and their files.

use chrono::{DateTime, Utc};
use millrace_chassis::path_segment;
use millrace_domain::{
    AttemptId, AttemptState, BuilderId, FileName, Outcome, Phase, Stage, StageTime,
};
use millrace_store::{AttemptView, PackageView};
use serde::Serialize;
use utoipa::ToSchema;

use crate::config::links::Links;

/// An attempt: one try of a task by one builder.
#[derive(Debug, Serialize, ToSchema)]
pub struct Attempt {
    /// Identifies the attempt in addresses, messages and logs.
    pub id: AttemptId,
    /// Number within the task, from 1.
    pub number: u32,
    /// Name of the builder that claimed it; null until then, and when a poller claimed it.
    pub builder: Option<String>,
    /// Name of the poller of 2012 that claimed it in place of a builder; null otherwise.
    pub poller: Option<String>,
    /// Id of the builder that claimed it; null where `builder` is.
    pub builder_id: Option<BuilderId>,
    /// Present state; `finished`, `lost` and `revoked` are final.
    pub state: AttemptState,
    /// Why the attempt was taken back, such as a cancel or a decline; null unless it is `revoked`.
    pub reason: Option<String>,
    /// How far the builder is, from its last heartbeat; null until it has said.
    pub phase: Option<Phase>,
    /// The present or last stage, from the builder's last heartbeat; null until it has said.
    pub stage: Option<Stage>,
    /// What the attempt waits for although its work is done; null when it waits for nothing.
    pub waits_for: Option<AttemptWait>,
    /// How the attempt ended; null until it has, and when it was taken back.
    pub outcome: Option<Outcome>,
    /// What became of each package; empty until the builder's report was accepted.
    pub packages: Vec<Package>,
    /// Stages reached so far, with their times.
    pub stages: Vec<StageTime>,
    /// Size of the log that is stored so far, in bytes.
    pub log_size: u64,
    /// Digest of the chroot's image that was used; null until the builder's report was accepted, and where the engine
    /// names none.
    pub image_digest: Option<String>,
    /// When that image was baked; null where that is not known.
    pub image_baked_at: Option<DateTime<Utc>>,
    /// Limits that were given to the attempt; a raised limit makes them differ from the build's.
    pub limits: AttemptLimits,
    /// When the attempt was made and offered to builders.
    pub offered_at: DateTime<Utc>,
    /// When a builder or poller claimed it; null until then.
    pub claimed_at: Option<DateTime<Utc>>,
    /// When it finished, was lost or was taken back; null until then.
    pub ended_at: Option<DateTime<Utc>>,
}

/// Limits that were given to an attempt.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttemptLimits {
    /// Memory and swap together of each package, in MiB.
    pub memory_mib: u32,
    /// Wall time of each package, in seconds; null for attempts older than this field.
    pub timeout_seconds: Option<u32>,
    /// Disk space of each package's sandbox, in MiB; null where the builder's own setting applies.
    pub disk_mib: Option<u32>,
}

/// What an attempt waits for after its work is done.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttemptWait {
    /// The reason as a word for scripts: `spool_space` or `results_space`; newer builders may name others.
    pub reason: String,
    /// The reason as a sentence.
    pub message: String,
}

/// The end of one package of an attempt.
#[derive(Debug, Serialize, ToSchema)]
pub struct Package {
    /// Position of its source within the build, from 0.
    pub position: u32,
    /// File name of its source package.
    pub source: FileName,
    /// How the build of the package ended.
    pub outcome: Outcome,
    /// Files of the package, by name: packages and logs.
    pub files: Vec<ResultFile>,
}

/// A file of a result.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResultFile {
    /// File name, unique within its package.
    pub name: FileName,
    /// Size of the file in bytes.
    pub size: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
    /// Address where the file can be read.
    pub url: String,
}

impl Attempt {
    /// Converts a stored attempt.
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
