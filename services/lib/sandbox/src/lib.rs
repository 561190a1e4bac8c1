//! Containers: the only crate that knows bollard. See README.md for what a sandbox is and what it is not.
#![doc = include_str!("../README.md")]

mod archive;
mod attach;
mod bake;
mod collect;
mod engine;
mod error;
mod image;
mod network;
mod network_link;
mod noop;
mod profile;
mod result_files;
mod runtime;
mod sandbox;
mod self_test;
mod self_test_network;
mod spec;
mod sweep;

pub use bake::{Bake, BakeSpec};
pub use engine::{Engine, EngineInfo};
pub use error::SandboxError;
pub use image::ImageFacts;
pub use network::NetworkSpec;
pub use noop::NoopEngine;
pub use profile::{Profile, UnknownProfile};
pub use result_files::{CollectCaps, Collected, CollectedFile, RefusedFile};
pub use runtime::{Runtime, SandboxHandle};
pub use sandbox::Ended;
pub use self_test::{SelfTest, self_test};
pub use self_test_network::self_test_network;
pub use spec::{SandboxFiles, SandboxLimits, SandboxSpec};
pub use sweep::{SweepFilter, Swept};
