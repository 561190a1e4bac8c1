//! The frontend: accepts builds, owns the truth, and moves work between PostgreSQL, RabbitMQ and builders.
#![doc = include_str!("../README.md")]

mod application;
mod background;
mod builds;
mod cli;
mod config;
mod error;
mod healthcheck;
mod http;
mod log_stream;
mod state;

pub use application::Application;
pub use cli::run;
pub use config::args::{CapArgs, Cli, Command, Config, FairnessArgs, LeaseArgs, LimitArgs};
pub use config::settings::{Links, Settings, SettingsError};
pub use http::openapi::document as openapi_document;
