//! The settings. `--help` is the manual; compose sets the variables.

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

/// Turns jobs into results: takes them from RabbitMQ, builds them with mock in sandboxes, and reports.
#[derive(Debug, Parser)]
#[command(name = "millrace-builder", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do; without it the builder runs
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings of the builder
    #[command(flatten)]
    pub config: Config,
    /// Logging
    #[command(flatten)]
    pub log: LogArgs,
}

/// The commands.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Command {
    /// Take jobs and build them until stopped
    Run,
    /// Exit with 0 when the builder of this machine (or container) is ready for jobs, with 1 and the reason when not
    Healthcheck,
    /// Test engine, sandbox profile and memory limit as at each start, then exit
    SelfTest,
}

/// Settings of the builder.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Address of the frontend
    #[arg(
        long,
        env = "MILLRACE_FRONTEND_URL",
        default_value = "http://localhost:8080",
        value_name = "URL"
    )]
    pub frontend_url: String,
    /// Address of RabbitMQ with the builder's broker user, `amqp://builder:PASSWORD@HOST:5672/VHOST`
    #[arg(
        long,
        env = "MILLRACE_AMQP_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub amqp_url: Option<SecretString>,
    /// The secret with which builders enrol at the frontend
    #[arg(
        long,
        env = "MILLRACE_ENROL_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub enrol_token: Option<SecretString>,
    /// The name that people see [default: the host name]
    #[arg(long, env = "MILLRACE_BUILDER_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// Folder of identities and unsent results; builders may share it, each takes a subfolder of its own
    #[arg(
        long,
        env = "MILLRACE_SPOOL_DIR",
        default_value = "/var/lib/millrace/spool",
        value_name = "DIR"
    )]
    pub spool_dir: PathBuf,
    /// Below this free space on the spool's disk the builder takes no work, in MiB
    #[arg(
        long,
        env = "MILLRACE_SPOOL_FLOOR_MB",
        default_value_t = 1024,
        value_name = "MIB"
    )]
    pub spool_floor_mb: u32,
    /// How long results wait in their sandbox for space on a full spool disk, in seconds
    #[arg(
        long,
        env = "MILLRACE_SPOOL_WAIT_SECONDS",
        default_value_t = 600,
        value_name = "SECONDS"
    )]
    pub spool_wait_seconds: u32,
    /// The container engine's API: a unix:// socket of Docker or Podman
    #[arg(
        long,
        env = "MILLRACE_ENGINE_URL",
        default_value = "unix:///var/run/docker.sock",
        value_name = "URL"
    )]
    pub engine_url: String,
    /// What sandboxes may: `privileged`, or `capabilities` (eleven of them, nothing more)
    #[arg(
        long,
        env = "MILLRACE_SANDBOX_PROFILE",
        default_value = "privileged",
        value_name = "PROFILE"
    )]
    pub sandbox_profile: Profile,
    /// What sandboxes are made of
    #[arg(long, env = "MILLRACE_SANDBOX", value_enum, default_value_t = SandboxKind::Mock)]
    pub sandbox: SandboxKind,
    /// For tests: how long a sandbox of the stand-in `noop` takes, in milliseconds
    #[arg(
        long,
        env = "MILLRACE_NOOP_MILLIS",
        default_value_t = 0,
        value_name = "MILLISECONDS"
    )]
    pub noop_millis: u32,
    /// The engine's network that sandboxes join; made when missing
    #[arg(
        long,
        env = "MILLRACE_SANDBOX_NETWORK",
        default_value = "millrace-sandbox",
        value_name = "NAME"
    )]
    pub sandbox_network: String,
    /// Largest packet on that network, in bytes [default: as on the engine's default bridge]
    #[arg(long, env = "MILLRACE_NETWORK_MTU", value_name = "BYTES")]
    pub network_mtu: Option<u32>,
    /// The static supervisor that is put into each sandbox
    #[arg(
        long,
        env = "MILLRACE_SUPERVISOR",
        default_value = "/usr/local/bin/millrace-supervisor",
        value_name = "FILE"
    )]
    pub supervisor: PathBuf,
    /// Sandboxes that run at once [default: the engine's processors]
    #[arg(
        long,
        env = "MILLRACE_BUILDER_SANDBOXES",
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(1..=4096)
    )]
    pub sandboxes: Option<u32>,
    /// Memory for all sandboxes together, in MiB [default: 80 % of the engine's]
    #[arg(
        long,
        env = "MILLRACE_BUILDER_MEMORY_MIB",
        value_name = "MIB",
        value_parser = clap::value_parser!(u32).range(256..)
    )]
    pub memory_mib: Option<u32>,
    /// The largest source that is fetched, in bytes
    #[arg(
        long,
        env = "MILLRACE_MAX_SOURCE_BYTES",
        default_value_t = 2 << 30,
        value_name = "BYTES"
    )]
    pub max_source_bytes: u64,
    /// How long a source that cannot be fetched for a reason that may pass is tried again, in seconds
    #[arg(
        long,
        env = "MILLRACE_FETCH_RETRY_SECONDS",
        default_value_t = 300,
        value_name = "SECONDS"
    )]
    pub fetch_retry_seconds: u32,
    /// How long a builder that is asked to stop finishes what it has, in seconds, before it hands running attempts back;
    /// a second signal does so at once, 0 is at once too
    #[arg(
        long,
        env = "MILLRACE_DRAIN_SECONDS",
        default_value_t = 300,
        value_name = "SECONDS"
    )]
    pub drain_seconds: u32,
    /// A builder that was set aside for faults of its own repeats its self-test: the first time after about so many
    /// seconds, then at a growing distance of up to 10 minutes
    #[arg(
        long,
        env = "MILLRACE_SELF_TEST_SECONDS",
        default_value_t = 30,
        value_name = "SECONDS"
    )]
    pub self_test_seconds: u32,
    /// Limits on each sandbox
    #[command(flatten)]
    pub caps: CapsArgs,
    /// Images of chroots
    #[command(flatten)]
    pub bake: BakeArgs,
    /// Where the running builder notes its health for the command healthcheck
    #[arg(
        long,
        env = "MILLRACE_STATUS_FILE",
        default_value_os_t = std::env::temp_dir().join("millrace-builder.status"),
        value_name = "FILE"
    )]
    pub status_file: PathBuf,
    /// The guarded client
    #[command(flatten)]
    pub fetch: FetchArgs,
}

/// A setting that the builder cannot do without is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{variable} is not set: {meaning}")]
pub struct MissingSetting {
    /// The variable.
    pub variable: &'static str,
    /// What it is for.
    pub meaning: &'static str,
}

impl Config {
    /// The broker's address.
    pub fn amqp_url(&self) -> Result<&SecretString, MissingSetting> {
        self.amqp_url.as_ref().ok_or(MissingSetting {
            variable: "MILLRACE_AMQP_URL",
            meaning: "the address of RabbitMQ with the builder's broker user",
        })
    }

    /// The secret for enrolling.
    pub fn enrol_token(&self) -> Result<&SecretString, MissingSetting> {
        self.enrol_token.as_ref().ok_or(MissingSetting {
            variable: "MILLRACE_ENROL_TOKEN",
            meaning: "the secret with which builders enrol at the frontend",
        })
    }

    /// The name for people: as set, or the host's, at most 64 characters.
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
