//! How an attempt, or one of its packages, ended.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::state::words;

words!(
    /// The kind of an outcome.
    OutcomeKind, "outcome", {
        /// All packages were built.
        Succeeded = "succeeded",
        /// The package does not build.
        BuildFailed = "build_failed",
        /// A build dependency or an extra repository is missing or broken.
        DependencyFailed = "dependency_failed",
        /// The source could not be fetched or is no source package.
        SourceFailed = "source_failed",
        /// The memory limit was hit.
        OutOfMemory = "out_of_memory",
        /// The wall-time limit was hit.
        TimedOut = "timed_out",
        /// The limit on time without output was hit.
        Silent = "silent",
        /// The log's hard cap was hit.
        LogTooLarge = "log_too_large",
        /// The sandbox's own disk limit was hit.
        DiskFull = "disk_full",
        /// The package excludes this architecture.
        Skipped = "skipped",
        /// The requester cancelled the build.
        Cancelled = "cancelled",
        /// The attempt's lease ran out: its builder is gone or cut off.
        BuilderLost = "builder_lost",
        /// The builder's own disk is full.
        BuilderDiskFull = "builder_disk_full",
        /// The engine or the container failed.
        SandboxFailed = "sandbox_failed",
        /// The chroot's own repository cannot be reached.
        RepositoryUnreachable = "repository_unreachable",
        /// A fault of Millrace itself.
        InternalError = "internal_error",
    }
);

/// Who is responsible for an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The package: never retried automatically.
    Package,
    /// No failure: succeeded or skipped.
    Nobody,
    /// The requester, who cancelled.
    Requester,
    /// Millrace or its hosts: retried automatically, on another builder first.
    Infrastructure,
}

impl OutcomeKind {
    /// Who is responsible for this outcome.
    pub const fn origin(self) -> Origin {
        match self {
            Self::Succeeded | Self::Skipped => Origin::Nobody,
            Self::BuildFailed
            | Self::DependencyFailed
            | Self::SourceFailed
            | Self::OutOfMemory
            | Self::TimedOut
            | Self::Silent
            | Self::LogTooLarge
            | Self::DiskFull => Origin::Package,
            Self::Cancelled => Origin::Requester,
            Self::BuilderLost
            | Self::BuilderDiskFull
            | Self::SandboxFailed
            | Self::RepositoryUnreachable
            | Self::InternalError => Origin::Infrastructure,
        }
    }

    /// Whether another attempt follows while the task has some left.
    pub fn is_retried(self) -> bool {
        self.origin() == Origin::Infrastructure
    }

    /// Whether the package counts as resolved.
    pub fn is_success(self) -> bool {
        self.origin() == Origin::Nobody
    }
}

words!(
    /// A stage of an attempt.
    Stage, "stage", {
        /// The source package is fetched to the builder.
        Fetch = "fetch",
        /// The buildroot is made ready.
        Buildroot = "buildroot",
        /// Build dependencies are installed.
        Dependencies = "dependencies",
        /// `%prep` of the spec: sources are unpacked and patched.
        Prep = "prep",
        /// `%build` of the spec: the package is compiled.
        Build = "build",
        /// `%install` of the spec: files are put into the package's tree.
        Install = "install",
        /// `%check` of the spec: the package's own tests run.
        Check = "check",
        /// rpmbuild writes the packages.
        Package = "package",
        /// Results are taken out of the sandbox.
        Collect = "collect",
        /// Results are sent to the frontend.
        Upload = "upload",
    }
);

words!(
    /// The name of a limit.
    LimitName, "limit", {
        /// Memory and swap together.
        Memory = "memory",
        /// Wall time of the sandbox's process tree.
        Timeout = "timeout",
        /// Time without any output of the build.
        Silence = "silence",
        /// Size of the log.
        Log = "log",
        /// Size of the sandbox's writable layer.
        Disk = "disk",
    }
);

words!(
    /// The unit of a limit.
    Unit, "unit", {
        /// Mebibytes: 1,048,576 bytes each.
        MiB = "mib",
        /// Whole seconds of wall time.
        Seconds = "seconds",
    }
);

/// A limit with its value, as it was or as it is suggested.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
    utoipa::ToSchema,
)]
pub struct Limit {
    /// Which limit it is.
    pub name: LimitName,
    /// Its value, in `unit`.
    pub value: u64,
    /// Unit that `value` is in.
    pub unit: Unit,
}

/// The first line of the log that shows the failure.
#[derive(
    Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema,
)]
pub struct FirstError {
    /// The line, at most 500 characters, control characters replaced.
    pub text: String,
    /// Where the line begins in the attempt's stored log, in bytes.
    pub log_offset: u64,
}

/// When a stage began and how long it took.
#[derive(
    Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema,
)]
pub struct StageTime {
    /// Which stage it is.
    pub name: Stage,
    /// When it began, by the builder's clock.
    pub start: DateTime<Utc>,
    /// How long it took, in seconds; absent while it runs.
    pub seconds: Option<f64>,
}

/// How an attempt or a package ended, with what a person needs to act on it.
#[derive(
    Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema,
)]
pub struct Outcome {
    /// What kind of end it was.
    pub kind: OutcomeKind,
    /// The stage in which it ended; none for a success.
    #[serde(default)]
    pub stage: Option<Stage>,
    /// One sentence for a person: what happened and what to try.
    pub message: String,
    /// The exit code of the program that decided, where there was one.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// The exit code in words, such as `mock exited with 30: a package could not be installed`.
    #[serde(default)]
    pub exit_text: Option<String>,
    /// The limit that was hit.
    #[serde(default)]
    pub limit: Option<Limit>,
    /// The limit to try next; absent where raising one does not help or is not allowed.
    #[serde(default)]
    pub suggested_limit: Option<Limit>,
    /// Highest anonymous and shared memory seen, in bytes.
    #[serde(default)]
    pub peak_memory_bytes: Option<u64>,
    /// The kernel's own peak in bytes, which counts page cache too.
    #[serde(default)]
    pub peak_memory_with_cache_bytes: Option<u64>,
    /// Processes that the out-of-memory killer ended, also where the build went on.
    #[serde(default)]
    pub oom_kills: Option<u64>,
    /// Processor time of the whole tree, in seconds.
    #[serde(default)]
    pub cpu_seconds: Option<f64>,
    /// Wall time of the sandbox, in seconds.
    #[serde(default)]
    pub wall_seconds: Option<f64>,
    /// Wall time of each stage, in seconds; what a stage took more than once is summed up.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stage_seconds: BTreeMap<Stage, f64>,
    /// Size of the log that the build wrote, in bytes, with what the stored log leaves out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_bytes: Option<u64>,
    /// Size of all result files together, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_bytes: Option<u64>,
    /// Size of the source package that was fetched, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_bytes: Option<u64>,
    /// Bytes that the sandbox received over its network: packages, metadata and everything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_bytes: Option<u64>,
    /// Bytes that the build added to the sandbox's disk, as last measured; absent where nothing was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// The first line of the log that shows the failure.
    #[serde(default)]
    pub first_error: Option<FirstError>,
}

impl Outcome {
    /// An outcome with its kind and message, and nothing else known.
    pub fn new(kind: OutcomeKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            stage: None,
            message: message.into(),
            exit_code: None,
            exit_text: None,
            limit: None,
            suggested_limit: None,
            peak_memory_bytes: None,
            peak_memory_with_cache_bytes: None,
            oom_kills: None,
            cpu_seconds: None,
            wall_seconds: None,
            stage_seconds: BTreeMap::new(),
            log_bytes: None,
            result_bytes: None,
            source_bytes: None,
            received_bytes: None,
            disk_bytes: None,
            first_error: None,
        }
    }

    /// Sets the stage in which it ended.
    #[must_use]
    pub fn at(mut self, stage: Stage) -> Self {
        self.stage = Some(stage);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_faults_of_ours_are_retried() {
        let retried: Vec<_> = OutcomeKind::ALL
            .iter()
            .filter(|k| k.is_retried())
            .map(|k| k.as_str())
            .collect();
        assert_eq!(
            retried,
            [
                "builder_lost",
                "builder_disk_full",
                "sandbox_failed",
                "repository_unreachable",
                "internal_error"
            ]
        );
    }

    #[test]
    fn an_outcome_with_unknown_fields_still_reads() {
        let outcome: Outcome =
            serde_json::from_str(r#"{"kind":"timed_out","message":"x","new_field":1}"#).unwrap();
        assert_eq!(outcome, Outcome::new(OutcomeKind::TimedOut, "x"));
    }
}
