//! One sample of each request and answer of `/builder/v1`. Builders and frontends of different releases work side by
//! side, so what was once sent must be understood for ever, and what is sent now must hold all that was sent then.

use millrace_domain::{BuilderId, Phase, Stage, Token};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{attempt_id, finished, time};
use crate::builder_api::{
    AttemptAnswer, AttemptStatus, AttemptVerdict, ClaimGranted, ClaimRefusal, ClaimRefused,
    ClaimRequest, DeclineReason, DeclineRequest, DiskShortage, EnrolRequest, Enrolled,
    HeartbeatAnswer, HeartbeatRequest, Hindrances, LogAccepted, MissingFile, WaitsFor,
};
use crate::chroots::{ChrootImage, ChrootOrder, ChrootsAnswer, ChrootsRequest, ImageState};

/// Looks at each type with its sample.
pub trait Visitor {
    /// Why it stops.
    type Error;

    /// One request or answer, under the name of its files.
    fn visit<T>(&mut self, name: &str, sample: &T) -> Result<(), Self::Error>
    where
        T: Serialize + DeserializeOwned + JsonSchema;
}

/// Shows all samples to a visitor.
pub fn builder_api<V: Visitor>(visitor: &mut V) -> Result<(), V::Error> {
    visitor.visit("enrol_request", &enrol_request())?;
    visitor.visit("enrolled", &enrolled())?;
    visitor.visit("claim_request", &claim_request())?;
    visitor.visit("claim_granted", &claim_granted())?;
    visitor.visit("claim_refused", &claim_refused())?;
    visitor.visit("decline_request", &decline_request())?;
    visitor.visit("decline_request_hindered", &decline_request_hindered())?;
    visitor.visit("heartbeat_request", &heartbeat_request())?;
    visitor.visit("heartbeat_request_hindered", &heartbeat_request_hindered())?;
    visitor.visit("heartbeat_answer", &heartbeat_answer())?;
    visitor.visit("log_accepted", &LogAccepted { size: 4096 })?;
    visitor.visit("chroots_request", &chroots_request())?;
    visitor.visit("chroots_answer", &chroots_answer())
}

fn chroots_request() -> ChrootsRequest {
    ChrootsRequest {
        images: Some(vec![ChrootImage {
            chroot: "fedora-44-x86_64".parse().expect("a chroot"),
            state: ImageState::Failed,
            digest: Some(format!("sha256:{}", "0".repeat(64))),
            baked_at: Some(time()),
            since: Some(time()),
            error: Some("mock --init ended with exit code 30".to_owned()),
            next_try_at: Some(time()),
        }]),
    }
}

fn chroots_answer() -> ChrootsAnswer {
    ChrootsAnswer {
        chroots: vec![ChrootOrder {
            name: "fedora-44-x86_64".parse().expect("a chroot"),
            image: "millrace/chroot-fedora-44-x86_64".to_owned(),
            base: Some("millrace/mock:fedora-44".to_owned()),
            mock_root: "fedora-44-x86_64".parse().expect("a chroot"),
            refresh_asked_ms_ago: Some(1500),
        }],
    }
}

fn token(byte: u8) -> Token {
    Token::from_bytes([byte; 32])
}

fn enrol_request() -> EnrolRequest {
    EnrolRequest {
        renewal: false,
        builder_id: BuilderId(Uuid::from_u128(2)),
        name: "builder-1".to_owned(),
        previous_token: Some(token(1)),
        engine_id: "engine-1".to_owned(),
        engine_budget_mib: 16384,
        archs: vec!["x86_64".to_owned()],
        memory_mib: 16384,
        sandboxes: 4,
        version: "0.1.0".to_owned(),
    }
}

fn enrolled() -> Enrolled {
    Enrolled {
        token: token(1),
        heartbeat_seconds: 5,
        lease_seconds: 45,
        memory_classes_gib: vec![2, 4, 8],
    }
}

fn claim_request() -> ClaimRequest {
    ClaimRequest {
        attempt_id: attempt_id(),
        nonce: token(2),
    }
}

fn claim_granted() -> ClaimGranted {
    ClaimGranted {
        lease_token: token(0),
        lease_seconds: 45,
    }
}

fn claim_refused() -> ClaimRefused {
    ClaimRefused {
        reason: ClaimRefusal::NoRoom,
    }
}

fn decline_request() -> DeclineRequest {
    DeclineRequest {
        attempt_id: attempt_id(),
        lease_token: Some(token(0)),
        reason: DeclineReason::Stopping,
        missing_image: None,
        hindrances: Hindrances::default(),
    }
}

fn hindrances() -> Hindrances {
    Hindrances {
        disk: Some(DiskShortage {
            free_mib: 312,
            floor_mib: 1024,
        }),
        missing_images: vec!["millrace/chroot-fedora-44-x86_64".to_owned()],
    }
}

fn decline_request_hindered() -> DeclineRequest {
    DeclineRequest {
        lease_token: None,
        reason: DeclineReason::NoRoom,
        missing_image: hindrances().missing_images.pop(),
        hindrances: hindrances(),
        ..decline_request()
    }
}

fn heartbeat_request_hindered() -> HeartbeatRequest {
    let mut beat = heartbeat_request();
    for attempt in &mut beat.attempts {
        attempt.waits_for = Some(WaitsFor::ResultsSpace);
    }
    HeartbeatRequest {
        hindrances: hindrances(),
        ..beat
    }
}

fn heartbeat_request() -> HeartbeatRequest {
    HeartbeatRequest {
        stopping: false,
        self_test_passed: None,
        free_mib: 2048,
        free_sandboxes: 1,
        attempts: vec![AttemptStatus {
            attempt_id: attempt_id(),
            lease_token: token(0),
            phase: Phase::Building,
            stage: Some(Stage::Build),
            stages: finished().stages,
            waits_for: None,
        }],
        hindrances: Hindrances::default(),
    }
}

fn heartbeat_answer() -> HeartbeatAnswer {
    let verdicts = [
        AttemptVerdict::Continue,
        AttemptVerdict::Cancel,
        AttemptVerdict::Revoked,
        AttemptVerdict::Accepted,
        AttemptVerdict::Refused,
        AttemptVerdict::Missing {
            files: vec![MissingFile {
                position: 0,
                name: finished().packages[0].files[0].name.clone(),
            }],
        },
    ];
    HeartbeatAnswer {
        self_test: None,
        attempts: verdicts
            .into_iter()
            .map(|verdict| AttemptAnswer {
                attempt_id: attempt_id(),
                verdict,
            })
            .collect(),
        drain: false,
        reserve_mib: None,
    }
}
