//! Turns a job into results. See README.md.
#![doc = include_str!("../README.md")]

mod app;
mod attempt;
mod bake;
mod bake_args;
mod caps_args;
mod claim;
mod command;
mod config;
mod context;
mod control;
mod disk;
mod durable;
mod engine;
#[cfg(test)]
mod fake_frontend;
mod frontend;
mod heartbeat;
mod identity;
mod images;
mod intake;
mod live;
mod log;
mod mock;
mod room;
mod self_test;
mod session;
mod spool;
mod srpm;
mod status;
mod sweeper;
mod transfer;

pub use command::execute;
pub use config::{Cli, Command, Config, SandboxKind};
