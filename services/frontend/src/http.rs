//! The HTTP interface, one endpoint or a pair of opposites in a file. Handlers check, call a use case or the store,
//! and give the answer its shape; none of them publishes.

mod attempt_files;
mod builder_api;
mod builds;
mod cancel_build;
mod chroots;
mod drain_builder;
mod health;
mod import_builds;
mod list_builders;
mod list_parked;
mod logs;
mod openapi;
mod pollers;
mod projects;
mod resubmit_build;
mod result_folders;
mod serve_file;
mod status;
mod submit_build;
mod tasks;
mod update_builds;
mod upload_source;
mod waiting_builds;

pub use openapi::document;
pub use routes::router;

mod routes;
