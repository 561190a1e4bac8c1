//! The frontend: accepts builds, owns the truth, and moves work between PostgreSQL, RabbitMQ and builders.

mod application;
mod auth;
mod boot;
mod cancel;
mod chroots;
mod config;
mod error;
mod extract;
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
mod redact;
mod relay;
mod run;
mod sealer;
mod settings;
mod state;
mod submit;
mod sweeper;
mod views;
mod wait;

pub use application::Application;
pub use config::{CapArgs, Cli, Command, Config, FairnessArgs, LeaseArgs, LimitArgs};
pub use http::document as openapi_document;
pub use run::run;
pub use settings::{Links, Settings, SettingsError};
