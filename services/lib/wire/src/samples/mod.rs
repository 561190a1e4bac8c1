//! One sample of each message and of each call of `/builder/v1`; `schemas/` keeps them, and every sample ever released
//! decodes for ever.

#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "samples are constants that a test decodes"
)]

mod builder_api;

pub use builder_api::{Visitor, builder_api};

use chrono::{DateTime, TimeZone, Utc};
use millrace_domain::{
    AttemptId, BuildId, BuilderId, FirstError, Limits, Outcome, OutcomeKind, Stage, StageTime,
    TaskId, Token,
};
use uuid::Uuid;

use crate::{
    ControlV1, FinishedV1, JobChroot, JobSource, JobV1, ManifestFile, PackageReport, SourceOrigin,
};

/// The moment at which all samples were made.
pub fn time() -> DateTime<Utc> {
    Utc.timestamp_opt(1_351_770_919, 0)
        .single()
        .expect("a valid moment")
}

fn attempt_id() -> AttemptId {
    AttemptId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001))
}

/// A `job/v1`.
pub fn job() -> JobV1 {
    JobV1 {
        attempt_id: attempt_id(),
        attempt_number: 1,
        task_id: TaskId(21),
        build_id: BuildId(14),
        owner: "main".parse().expect("a name"),
        project: "main".parse().expect("a name"),
        chroot: JobChroot {
            name: "fedora-44-x86_64".parse().expect("a chroot"),
            image: "millrace/chroot-fedora-44-x86_64".to_owned(),
            mock_root: "fedora-44-x86_64".parse().expect("a chroot"),
        },
        sources: vec![
            JobSource {
                position: 0,
                name: "pkg-1-1.src.rpm".parse().expect("a file name"),
                origin: SourceOrigin::Url {
                    url: "http://foo/pkg-1-1.src.rpm".parse().expect("a URL"),
                },
                size: None,
                finished: None,
            },
            JobSource {
                position: 1,
                name: "spam-2-1.src.rpm".parse().expect("a file name"),
                origin: SourceOrigin::Stored {
                    sha256: "0".repeat(64),
                },
                size: Some(4096),
                finished: None,
            },
        ],
        repositories: vec!["http://foo/repo/$basearch/".parse().expect("a URL")],
        limits: Limits {
            memory_mib: 2048,
            timeout_seconds: 1800,
        },
        disk_mib: None,
        network: false,
    }
}

/// A `finished/v1` of a failed build.
pub fn finished() -> FinishedV1 {
    let mut outcome = Outcome::new(
        OutcomeKind::BuildFailed,
        "%build failed; see the first error",
    )
    .at(Stage::Build);
    outcome.exit_code = Some(1);
    outcome.first_error = Some(FirstError {
        text: "foo.c:1:1: error: expected ';'".to_owned(),
        log_offset: 512,
    });
    FinishedV1 {
        attempt_id: attempt_id(),
        task_id: TaskId(21),
        builder_id: BuilderId(Uuid::from_u128(2)),
        lease_token: Token::from_bytes([0; 32]),
        outcome: outcome.clone(),
        packages: vec![PackageReport {
            position: 0,
            source: "pkg-1-1.src.rpm".parse().expect("a file name"),
            outcome,
            files: vec![ManifestFile {
                name: "build.log".parse().expect("a file name"),
                size: 1024,
                sha256: "0".repeat(64),
            }],
        }],
        stages: vec![StageTime {
            name: Stage::Build,
            start: time(),
            seconds: Some(1.5),
        }],
        log_size: 1024,
        image_digest: None,
        image_baked_at: None,
    }
}

/// A `control/v1`.
pub fn control() -> ControlV1 {
    ControlV1::Cancel {
        attempt_id: attempt_id(),
    }
}
