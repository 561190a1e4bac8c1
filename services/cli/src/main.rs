//! The `millrace` command.

mod args;
mod client;
mod commands;
mod config;
mod exit;
mod follow;
mod model;
mod render;
mod simulate;
mod wait;

use clap::Parser;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    exit::code_of(commands::run(args::Args::parse()).await)
}
