//! Containers: the only crate that knows bollard. See README.md for what a sandbox is and what it is not.
#![doc = include_str!("../README.md")]

mod archive;
mod attach;
mod bake;
mod collect;
mod cuttest;
mod engine;
mod error;
mod image;
mod network;
mod noop;
mod profile;
mod runtime;
mod sandbox;
mod selftest;
mod spec;
mod spool;
mod sweep;
mod wiring;

pub use bake::{Bake, BakeSpec};
pub use cuttest::test_cut;
pub use engine::{Engine, EngineInfo};
pub use error::SandboxError;
pub use image::ImageFacts;
pub use network::NetworkSpec;
pub use noop::NoopEngine;
pub use profile::{Profile, UnknownProfile};
pub use runtime::{Runtime, SandboxHandle};
pub use sandbox::Ended;
pub use selftest::{SelfTest, self_test};
pub use spec::{SandboxFiles, SandboxLimits, SandboxSpec};
pub use spool::{CollectCaps, Collected, CollectedFile, RefusedFile};
pub use sweep::{SweepFilter, Swept};
