#![doc = include_str!("../README.md")]

mod args;
mod client;
mod commands;
mod config;
mod error;
mod exit;
mod follow;
mod log_printer;
mod model;
mod output;
mod render;
mod retry;
mod simulate;
#[cfg(test)]
mod testing;
mod wait;

use clap::Parser;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    exit::code_of(commands::run(args::Args::parse()).await)
}
