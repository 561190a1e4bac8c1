//! `/builder/v1`: enrol, claim, decline, heartbeat, log and files. Not for people.

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
    /// The identity kept in the builder's spool.
    pub builder_id: BuilderId,
    /// A name for people; at most 64 characters.
    pub name: String,
    /// The token of an earlier enrolment; needed to use a known id again.
    #[serde(default)]
    pub previous_token: Option<Token>,
    /// The engine's own id: builders of one engine share its memory.
    pub engine_id: String,
    /// What all sandboxes on that engine may use, in MiB.
    pub engine_budget_mib: u32,
    /// Architectures that the builder can run.
    pub archs: Vec<String>,
    /// Memory that this builder offers, in MiB.
    pub memory_mib: u32,
    /// Sandboxes that it runs at once.
    pub sandboxes: u32,
    /// Version of the builder program.
    pub version: String,
    /// The same process renews its token; it has not tested its engine since it started.
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
    /// How long a claim holds without news, in seconds.
    pub lease_seconds: u32,
    /// Upper ends of the memory classes, in GiB; the last class is open.
    pub memory_classes_gib: Vec<u32>,
}

/// `POST /builder/v1/claim`: asks for the attempt that a job message offers.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ClaimRequest {
    /// The attempt from the job message.
    pub attempt_id: AttemptId,
    /// Random and kept on disk before the call, so that a lost answer can be asked for again.
    pub nonce: Token,
}

/// 200: the attempt is the caller's. The same nonce gets the same answer.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ClaimGranted {
    /// Authorises everything about this attempt.
    pub lease_token: Token,
    /// How long it holds without news, in seconds.
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
    /// 409: an earlier attempt failed here; another builder goes first. The task was put back.
    Avoid,
    /// 409: the engine's memory is promised to others. The task was put back.
    NoRoom,
    /// 410: the offer was taken back or never existed.
    Revoked,
}

/// `POST /builder/v1/decline`: an order that cannot be taken after all. Always 204.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DeclineRequest {
    /// Id of the attempt.
    pub attempt_id: AttemptId,
    /// Present when the attempt was claimed already: it is handed back, uncounted.
    #[serde(default)]
    pub lease_token: Option<Token>,
    /// Why the order is declined.
    pub reason: DeclineReason,
    /// The image of the order's chroot, when the engine does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_image: Option<String>,
    /// What keeps the builder from work now; nothing when it has no more to say.
    #[serde(default, skip_serializing_if = "Hindrances::is_nothing")]
    pub hindrances: Hindrances,
}

/// What keeps a builder from work until somebody, or time, has done something.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Hindrances {
    /// Its spool's disk is short of space; it takes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskShortage>,
    /// Images of chroots that were asked for and that its engine lacks; it takes nothing that needs one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_images: Vec<String>,
}

/// How short of space a disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DiskShortage {
    /// Free space in MiB; 0 when a write failed for want of it.
    pub free_mib: u32,
    /// Below this free space the builder takes no work, in MiB.
    pub floor_mib: u32,
}

impl Hindrances {
    /// Whether there are none.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Why an order is declined.
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
    /// Attempts that this builder still has.
    pub attempts: Vec<AttemptStatus>,
    /// What keeps it from work.
    #[serde(default, skip_serializing_if = "Hindrances::is_nothing")]
    pub hindrances: Hindrances,
    /// It stops: it finishes what it has and takes nothing more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopping: bool,
    /// The self-test that was asked for under this time has passed.
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
    /// What it waits for, although its work is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<WaitsFor>,
}

/// What an attempt waits for whose work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitsFor {
    /// Space on the builder's spool disk, to collect the results.
    SpoolSpace,
    /// Space in the result store, to upload them.
    ResultsSpace,
    /// Something that a newer builder knows of.
    #[serde(other)]
    Other,
}

/// Answer to a heartbeat.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HeartbeatAnswer {
    /// One answer for each attempt named.
    pub attempts: Vec<AttemptAnswer>,
    /// Take no more work.
    #[serde(default)]
    pub drain: bool,
    /// Leave room for a large task: take nothing that needs less than this, in MiB, until one that needs as much was
    /// taken.
    #[serde(default)]
    pub reserve_mib: Option<u32>,
    /// The builder was set aside at this time for faults of its own: test the engine until that passes, and say so with
    /// this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_test: Option<DateTime<Utc>>,
}

/// What the frontend says of one attempt.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AttemptAnswer {
    /// Id of the attempt.
    pub attempt_id: AttemptId,
    /// What the builder does with it.
    pub verdict: AttemptVerdict,
}

/// What a builder does with an attempt it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum AttemptVerdict {
    /// Go on; the lease was extended.
    Continue,
    /// Stop the work and report `cancelled`.
    Cancel,
    /// The lease is gone: stop, drop everything, say no more.
    Revoked,
    /// The report was accepted: drop the spool.
    Accepted,
    /// The report was refused: drop the spool.
    Refused,
    /// The report came, but these files did not: upload them, then report again.
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
