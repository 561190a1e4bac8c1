//! The builder's settings. `--help` is their reference; Compose sets them as environment variables.

pub(crate) mod bake;
pub(crate) mod sandbox;
pub(crate) mod sandbox_limits;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use millrace_chassis::{FetchArgs, LogArgs};
use millrace_sandbox::Profile;
use secrecy::SecretString;

use crate::config::bake::BakeArgs;
use crate::config::sandbox::SandboxKind;
use crate::config::sandbox_limits::CapsArgs;

/// Takes jobs from RabbitMQ, builds them with mock in sandboxes, and reports the results to the frontend
#[derive(Debug, Parser)]
#[command(name = "millrace-builder", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do [default: run]
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The builder's settings, shared by all commands
    #[command(flatten)]
    pub config: Config,
    /// What is logged, and in which format
    #[command(flatten)]
    pub log: LogArgs,
}

/// The commands of the program.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Command {
    /// Take jobs and build them until stopped
    Run,
    /// Exit with 0 when the builder on this machine or in this container is ready for jobs, otherwise with 1 and the reason
    Healthcheck,
    /// Test the engine, the sandbox profile and the memory limit as at each start, then exit
    SelfTest,
}

/// The builder's settings, as given on the command line or in the environment.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// The frontend's address, as builders reach it
    #[arg(
        long,
        env = "MILLRACE_FRONTEND_URL",
        default_value = "http://localhost:8080",
        value_name = "URL"
    )]
    pub frontend_url: String,
    /// RabbitMQ's address with the builder's broker user, `amqp://builder:PASSWORD@HOST:5672/VHOST`
    #[arg(
        long,
        env = "MILLRACE_AMQP_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub amqp_url: Option<SecretString>,
    /// The secret with which builders enrol at the frontend; the same as the frontend's
    #[arg(
        long,
        env = "MILLRACE_ENROL_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub enrol_token: Option<SecretString>,
    /// The builder's name in lists and logs [default: the host name]
    #[arg(long, env = "MILLRACE_BUILDER_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// Folder of identities and unsent results; builders may share it, since each uses a subfolder of its own
    #[arg(
        long,
        env = "MILLRACE_SPOOL_DIR",
        default_value = "/var/lib/millrace/spool",
        value_name = "DIR"
    )]
    pub spool_dir: PathBuf,
    /// Free space on the spool's disk below which the builder takes no jobs, in MiB
    #[arg(
        long,
        env = "MILLRACE_SPOOL_FLOOR_MB",
        default_value_t = 1024,
        value_name = "MIB"
    )]
    pub spool_floor_mb: u32,
    /// How long finished work waits for space while the spool's disk is full, in seconds
    #[arg(
        long,
        env = "MILLRACE_SPOOL_WAIT_SECONDS",
        default_value_t = 600,
        value_name = "SECONDS"
    )]
    pub spool_wait_seconds: u32,
    /// The API of the container engine: a unix:// socket of Docker or Podman
    #[arg(
        long,
        env = "MILLRACE_ENGINE_URL",
        default_value = "unix:///var/run/docker.sock",
        value_name = "URL"
    )]
    pub engine_url: String,
    /// Privileges of sandboxes: `privileged`, or `capabilities` for eleven capabilities and nothing more
    #[arg(
        long,
        env = "MILLRACE_SANDBOX_PROFILE",
        default_value = "privileged",
        value_name = "PROFILE"
    )]
    pub sandbox_profile: Profile,
    /// Which kind of sandbox builds run in
    #[arg(long, env = "MILLRACE_SANDBOX", value_enum, default_value_t = SandboxKind::Mock)]
    pub sandbox: SandboxKind,
    /// For tests: how long a sandbox of the kind `noop` runs, in milliseconds
    #[arg(
        long,
        env = "MILLRACE_NOOP_MILLIS",
        default_value_t = 0,
        value_name = "MILLISECONDS"
    )]
    pub noop_millis: u32,
    /// The engine's network that sandboxes join; created when missing
    #[arg(
        long,
        env = "MILLRACE_SANDBOX_NETWORK",
        default_value = "millrace-sandbox",
        value_name = "NAME"
    )]
    pub sandbox_network: String,
    /// Largest packet (MTU) on the sandboxes' network, in bytes [default: that of the engine's default bridge]
    #[arg(long, env = "MILLRACE_NETWORK_MTU", value_name = "BYTES")]
    pub network_mtu: Option<u32>,
    /// The statically linked supervisor program that is copied into each sandbox
    #[arg(
        long,
        env = "MILLRACE_SUPERVISOR",
        default_value = "/usr/local/bin/millrace-supervisor",
        value_name = "FILE"
    )]
    pub supervisor: PathBuf,
    /// How many sandboxes run at once [default: the number of the engine's processors]
    #[arg(
        long,
        env = "MILLRACE_BUILDER_SANDBOXES",
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(1..=4096)
    )]
    pub sandboxes: Option<u32>,
    /// Memory of all sandboxes together, in MiB [default: 80 % of the engine's memory]
    #[arg(
        long,
        env = "MILLRACE_BUILDER_MEMORY_MIB",
        value_name = "MIB",
        value_parser = clap::value_parser!(u32).range(256..)
    )]
    pub memory_mib: Option<u32>,
    /// Largest source that is fetched, in bytes
    #[arg(
        long,
        env = "MILLRACE_MAX_SOURCE_BYTES",
        default_value_t = 2 << 30,
        value_name = "BYTES"
    )]
    pub max_source_bytes: u64,
    /// How long a fetch that failed for a transient reason is tried again, in seconds
    #[arg(
        long,
        env = "MILLRACE_FETCH_RETRY_SECONDS",
        default_value_t = 300,
        value_name = "SECONDS"
    )]
    pub fetch_retry_seconds: u32,
    /// After a stop signal, how long running attempts may finish before they are handed back, in seconds; 0 hands them back
    /// at once, and so does a second signal
    #[arg(
        long,
        env = "MILLRACE_DRAIN_SECONDS",
        default_value_t = 300,
        value_name = "SECONDS"
    )]
    pub drain_seconds: u32,
    /// Pause before a builder that was set aside for its own faults runs its self-test, in seconds; it doubles with each
    /// failure, up to 10 minutes
    #[arg(
        long,
        env = "MILLRACE_SELF_TEST_SECONDS",
        default_value_t = 30,
        value_name = "SECONDS"
    )]
    pub self_test_seconds: u32,
    /// Limits of each sandbox
    #[command(flatten)]
    pub caps: CapsArgs,
    /// Baking of the images of chroots
    #[command(flatten)]
    pub bake: BakeArgs,
    /// File in which the running builder records its health for the command `healthcheck`
    #[arg(
        long,
        env = "MILLRACE_STATUS_FILE",
        default_value_os_t = std::env::temp_dir().join("millrace-builder.status"),
        value_name = "FILE"
    )]
    pub status_file: PathBuf,
    /// Which addresses sources may be fetched from
    #[command(flatten)]
    pub fetch: FetchArgs,
}

/// A required setting is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{variable} is not set: {meaning}")]
pub struct MissingSetting {
    /// The environment variable that sets it.
    pub variable: &'static str,
    /// What the setting is for.
    pub meaning: &'static str,
}

impl Config {
    /// The broker's address, or an error that names the setting.
    pub fn amqp_url(&self) -> Result<&SecretString, MissingSetting> {
        self.amqp_url.as_ref().ok_or(MissingSetting {
            variable: "MILLRACE_AMQP_URL",
            meaning: "the address of RabbitMQ with the builder's broker user",
        })
    }

    /// The secret for enrolling, or an error that names the setting.
    pub fn enrol_token(&self) -> Result<&SecretString, MissingSetting> {
        self.enrol_token.as_ref().ok_or(MissingSetting {
            variable: "MILLRACE_ENROL_TOKEN",
            meaning: "the secret with which builders enrol at the frontend",
        })
    }

    /// The builder's name: as set, or else the host's; at most 64 characters.
    pub fn name(&self) -> String {
        let name = match &self.name {
            Some(name) if !name.trim().is_empty() => name.trim().to_owned(),
            _ => rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
        };
        name.chars().take(64).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_missing_is_named() {
        let cli = Cli::try_parse_from(["millrace-builder", "--name", "b1"]).unwrap();
        assert_eq!(cli.config.name(), "b1");
        if cli.config.amqp_url.is_none() {
            let error = cli.config.amqp_url().unwrap_err().to_string();
            assert!(error.starts_with("MILLRACE_AMQP_URL is not set"));
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let cli = Cli::try_parse_from(["millrace-builder", "--enrol-token", "hunter2"]).unwrap();
        assert!(!format!("{cli:?}").contains("hunter2"));
    }
}
