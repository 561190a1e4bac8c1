//! Harness of the black-box suite: starts the real binaries against a database and a vhost of their own.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a broken harness fails its test on the spot"
)]

pub mod chaos;
mod cli;
mod client;
mod crash;
mod disk;
mod engine;
mod fixture;
mod http;
mod idle;
pub mod invariants;
mod load;
mod pipeline;
mod process;
mod proxy;
pub mod recorded;
mod repository;
mod services;
mod settings;
mod until;
mod web;

pub use cli::{Cli, CliOutput};
pub use client::Client;
pub use crash::{Program, crash_points};
pub use disk::{SmallDisk, can_mount};
pub use engine::{leftovers, running_sandboxes_of, sandboxes_of};
pub use fixture::{Expected, Fixture, fixtures, source_package};
pub use http::{http_client, http_get};
pub use idle::idle_share;
pub use load::{Answer, Times};
pub use pipeline::{BuilderOptions, ENROL_TOKEN, Pipeline, PipelineOptions, Sandbox};
pub use process::Process;
pub use proxy::{FaultProxy, LinkState};
pub use repository::{FolderServer, SilentServer, make_repository};
pub use services::{PrivateBroker, PrivateDatabase, free_port};
pub use settings::{Settings, sized_by};
pub use until::{until, until_within};
pub use web::SourceServer;
