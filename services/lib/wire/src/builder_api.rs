//! `/builder/v1`, the API for builders: enrol, claim, decline, heartbeat, log and files.

use chrono::{DateTime, Utc};
use millrace_domain::{AttemptId, BuilderId, FileName, Phase, Stage, StageTime, Token};
use serde::{Deserialize, Serialize};

/// Header that carries the lease token with log chunks and files.
pub const LEASE_HEADER: &str = "millrace-lease";
/// Header that carries a file's SHA-256 in lower-case hexadecimal.
pub const SHA256_HEADER: &str = "millrace-sha256";

/// `POST /builder/v1/enrol`, with the enrolment token as bearer.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct EnrolRequest {
    /// Id of the builder, which it keeps on its spool over restarts.
    pub builder_id: BuilderId,
    /// A name for people; at most 64 characters.
    pub name: String,
    /// The token of an earlier enrolment; needed to use a known id again.
    #[serde(default)]
    pub previous_token: Option<Token>,
    /// Id of the container engine: builders of one engine share its memory.
    pub engine_id: String,
    /// Memory that all sandboxes on that engine may use together, in MiB.
    pub engine_budget_mib: u32,
    /// Architectures that the builder can run.
    pub archs: Vec<String>,
    /// Memory that this builder offers, in MiB.
    pub memory_mib: u32,
    /// Number of sandboxes that it runs at once.
    pub sandboxes: u32,
    /// Version of the builder program.
    pub version: String,
    /// True when a running process renews its token: it has not tested its engine again since it started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub renewal: bool,
}

/// Answer to an enrolment.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Enrolled {
    /// The builder's own token, for all further calls.
    pub token: Token,
    /// How often to send heartbeats, in seconds.
    pub heartbeat_seconds: u32,
    /// How long a lease lasts without a heartbeat, in seconds.
    pub lease_seconds: u32,
    /// Upper ends of the memory classes, in GiB; the last class is open.
    pub memory_classes_gib: Vec<u32>,
}

/// `POST /builder/v1/claim`: asks for the attempt that a job message offers.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ClaimRequest {
    /// The attempt from the job message.
    pub attempt_id: AttemptId,
    /// Random; written to disk before the call, so that a claim whose answer was lost can be repeated.
    pub nonce: Token,
}

/// 200: the caller holds the attempt's lease. The same nonce gets the same answer.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ClaimGranted {
    /// Token of the lease; authorises every call about this attempt.
    pub lease_token: Token,
    /// How long the lease lasts without a heartbeat, in seconds.
    pub lease_seconds: u32,
}

/// 409 or 410: why a claim was refused.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ClaimRefused {
    /// Why the claim was refused.
    pub reason: ClaimRefusal,
}

/// Reasons to refuse a claim; in each case the message is acknowledged and forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClaimRefusal {
    /// 409: another builder holds it.
    Taken,
    /// 409: an earlier attempt of the task failed on this builder; another one goes first. The task was put back.
    Avoid,
    /// 409: the engine's memory is taken by other claims. The task was put back.
    NoRoom,
    /// 410: the offer was taken back or never existed.
    Revoked,
}

/// `POST /builder/v1/decline`: gives back an offer that the builder cannot take. Always 204.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DeclineRequest {
    /// Id of the attempt.
    pub attempt_id: AttemptId,
    /// Present when the attempt was claimed already: it is handed back, uncounted.
    #[serde(default)]
    pub lease_token: Option<Token>,
    /// Why the offer is declined.
    pub reason: DeclineReason,
    /// Name of the chroot's image, when the engine does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_image: Option<String>,
    /// What keeps the builder from work now; absent when nothing does.
    #[serde(default, skip_serializing_if = "Hindrances::is_nothing")]
    pub hindrances: Hindrances,
}

/// What keeps a builder from taking work until it is resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Hindrances {
    /// The spool's disk is short of space: the builder takes no work at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskShortage>,
    /// Images of chroots that offers needed and that the engine lacks: the builder takes no work that needs one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_images: Vec<String>,
}

/// How short of space a disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DiskShortage {
    /// Free space, in MiB; 0 when a write failed because the disk was full.
    pub free_mib: u32,
    /// Below this free space the builder takes no work, in MiB.
    pub floor_mib: u32,
}

impl Hindrances {
    /// Whether nothing keeps the builder from work.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Why an offer is declined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeclineReason {
    /// The builder filled up while the message was in flight.
    NoRoom,
    /// The builder is stopping.
    Stopping,
}

/// `POST /builder/v1/heartbeat`: extends leases and reports how far each attempt is.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HeartbeatRequest {
    /// Memory left of the offer, in MiB.
    pub free_mib: u32,
    /// Sandboxes that the builder can still start.
    pub free_sandboxes: u32,
    /// Attempts that this builder holds.
    pub attempts: Vec<AttemptStatus>,
    /// What keeps the builder from taking work.
    #[serde(default, skip_serializing_if = "Hindrances::is_nothing")]
    pub hindrances: Hindrances,
    /// True when the builder is stopping: it finishes its attempts and takes no more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopping: bool,
    /// The self-test passed that the answer with this time asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_test_passed: Option<DateTime<Utc>>,
}

/// How far one attempt is.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AttemptStatus {
    /// Id of the attempt.
    pub attempt_id: AttemptId,
    /// Token of the attempt's lease, as the claim gave it.
    pub lease_token: Token,
    /// How far the builder is.
    pub phase: Phase,
    /// Stage that runs now; none between stages.
    #[serde(default)]
    pub stage: Option<Stage>,
    /// Stages so far, in order, with their times.
    #[serde(default)]
    pub stages: Vec<StageTime>,
    /// What it waits for once its work is done; absent when it does not wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<WaitsFor>,
}

/// What an attempt waits for once its work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitsFor {
    /// Space on the builder's spool disk, to collect the results.
    SpoolSpace,
    /// Space in the result store, to upload them.
    ResultsSpace,
    /// A word of a newer builder.
    #[serde(other)]
    Other,
}

/// Answer to a heartbeat.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HeartbeatAnswer {
    /// One answer for each attempt named.
    pub attempts: Vec<AttemptAnswer>,
    /// True when the builder must take no more work.
    #[serde(default)]
    pub drain: bool,
    /// Room is kept for a large task: take no offer that needs less than this, in MiB, until one that needs as much was
    /// taken.
    #[serde(default)]
    pub reserve_mib: Option<u32>,
    /// When the builder was set aside for faults of its own. It tests its engine until that passes, and then sends this
    /// time as `self_test_passed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_test: Option<DateTime<Utc>>,
}

/// The frontend's answer about one attempt.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AttemptAnswer {
    /// Id of the attempt.
    pub attempt_id: AttemptId,
    /// What the builder does with it.
    pub verdict: AttemptVerdict,
}

/// What a builder must do with an attempt that it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum AttemptVerdict {
    /// Go on; the lease was extended.
    Continue,
    /// Stop the work and report the outcome `cancelled`.
    Cancel,
    /// The lease is gone: stop, delete everything, report nothing.
    Revoked,
    /// The report was accepted: delete the attempt's spool.
    Accepted,
    /// The report was refused: delete the attempt's spool.
    Refused,
    /// The report arrived, but these files are not in the result store: upload them, then report again.
    Missing {
        /// Package position and file name of each.
        files: Vec<MissingFile>,
    },
}

/// A file of the manifest that the result store lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MissingFile {
    /// Position of the package.
    pub position: u32,
    /// Name of the missing file.
    pub name: FileName,
}

/// Answer to a log chunk, 200 or 409: how much of the log is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LogAccepted {
    /// Bytes stored; the next chunk begins here.
    pub size: u64,
}
