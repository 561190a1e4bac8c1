//! The frontend: accepts builds, owns the truth, and moves work between PostgreSQL, RabbitMQ and builders.
#![doc = include_str!("../README.md")]

mod add_chroot;
mod application;
mod auth;
mod boot;
mod broker;
mod cancel;
mod chroots;
mod config;
mod error;
mod extract;
mod full_store;
mod healthcheck;
mod hints;
mod http;
mod janitor;
mod job;
mod lease;
mod legacy;
mod listener;
mod log_watch;
mod logs;
mod observe;
mod outage;
mod parker;
mod peer;
mod redact;
mod relay;
mod run;
mod sealer;
mod server;
mod settings;
mod state;
mod submit;
mod suggest;
mod sweeper;
mod views;
mod wait;

pub use application::Application;
pub use config::{CapArgs, Cli, Command, Config, FairnessArgs, LeaseArgs, LimitArgs};
pub use http::document as openapi_document;
pub use run::run;
pub use settings::{Links, Settings, SettingsError};
