//! What crosses RabbitMQ and the builder API. The types generate `schemas/`.
#![doc = include_str!("../README.md")]

mod builder_api;
mod chroots;
mod control;
mod envelope;
mod finished;
mod job;
pub mod samples;

pub use builder_api::{
    AttemptAnswer, AttemptStatus, AttemptVerdict, ClaimGranted, ClaimRefusal, ClaimRefused,
    ClaimRequest, DeclineReason, DeclineRequest, DiskShortage, EnrolRequest, Enrolled,
    HeartbeatAnswer, HeartbeatRequest, Hindrances, LEASE_HEADER, LogAccepted, MissingFile,
    SHA256_HEADER, WaitsFor,
};
pub use chroots::{ChrootImage, ChrootOrder, ChrootsAnswer, ChrootsRequest, ImageState};
pub use control::ControlV1;
pub use envelope::{DecodeError, Envelope, Message, decode, encode};
pub use finished::{FinishedV1, ManifestFile, PackageReport};
pub use job::{FinishedBefore, JobChroot, JobSource, JobV1, SourceOrigin};
