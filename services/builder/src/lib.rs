//! The builder: takes jobs, builds them with mock in sandboxes, and reports the results. See README.md.
#![doc = include_str!("../README.md")]

mod app;
mod attempt;
mod attempt_registry;
mod bake;
mod cli;
mod config;
mod context;
mod engine;
mod frontend;
mod health_file;
mod heartbeat;
mod jobs;
mod log;
mod mock;
mod spool;

pub use cli::run;
pub use config::sandbox::SandboxKind;
pub use config::{Cli, Command, Config};
