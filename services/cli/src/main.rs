//! The `millrace` command.

mod args;
mod builder;
mod chroot;
mod client;
mod command;
mod config;
mod exit;
mod follow;
mod import;
mod model;
mod poller;
mod project;
mod render;
mod simulate;
mod submit;
mod wait;

use clap::Parser;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    exit::code_of(command::run(args::Args::parse()).await)
}
