//! The settings as they are given, by flag or environment variable. The comments of the fields are the text of
//! `--help`. [`crate::config::settings::Settings`] is the checked form.

#![expect(
    clippy::doc_markdown,
    reason = "these comments are the help text, which shows backticks as they are"
)]

use std::net::SocketAddr;
use std::path::PathBuf;

use millrace_chassis::{AllowList, FetchArgs, LogArgs};
use secrecy::SecretString;

/// The frontend of Millrace: accepts builds, owns their state in PostgreSQL, answers builders and pollers.
///
/// Without a command it serves. Every setting is a flag and an environment variable; flags win.
#[derive(Debug, clap::Parser)]
#[command(name = "millrace-frontend", version)]
pub struct Cli {
    /// The command; `serve` where there is none.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The settings of all commands.
    #[command(flatten)]
    pub config: Config,
}

/// The commands of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Subcommand)]
pub enum Command {
    /// Serve HTTP and move builds on (the default)
    Serve,
    /// Ask the frontend on this machine whether it is ready; exit code 0 if so, else 1
    Healthcheck,
    /// Print the OpenAPI document of the native API
    Openapi,
    /// Bring the schema of the database up to date and exit
    Migrate,
}

/// All settings as they were given, before they are checked against each other.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, env = "MILLRACE_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Address of PostgreSQL, as postgres://user:password@host/database
    #[arg(long, env = "MILLRACE_DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<SecretString>,
    /// Client connections at most, at least 16; when there are more, those without an open request are closed
    #[arg(long, env = "MILLRACE_MAX_CONNECTIONS", default_value_t = 2048)]
    pub max_connections: u32,
    /// How long a client may take to send the head of a request, in seconds
    #[arg(long, env = "MILLRACE_HEADER_SECONDS", default_value_t = 20)]
    pub header_seconds: u32,
    /// Networks (CIDR, separated by commas) of proxies whose X-Forwarded-For header is trusted for the client's
    /// address; empty: none
    #[arg(
        long,
        env = "MILLRACE_TRUSTED_PROXIES",
        value_name = "NETWORKS",
        default_value = ""
    )]
    pub trusted_proxies: AllowList,
    /// Connections to PostgreSQL at most, at least 2
    #[arg(long, env = "MILLRACE_DATABASE_CONNECTIONS", default_value_t = 10)]
    pub database_connections: u32,
    /// Address of RabbitMQ, as amqp://user:password@host/vhost
    #[arg(long, env = "MILLRACE_AMQP_URL", hide_env_values = true)]
    pub amqp_url: Option<SecretString>,
    /// Address of the result store, as file:///folder
    #[arg(long, env = "MILLRACE_RESULTS_URL")]
    pub results_url: Option<String>,
    /// TOML file of the first chroots, with one `[[chroot]]` table (name, image, mock_root, base) for each
    #[arg(long, env = "MILLRACE_CHROOTS_FILE")]
    pub chroots_file: Option<PathBuf>,
    /// Token of administrators, which every write needs as a bearer token; at least 8 characters
    #[arg(long, env = "MILLRACE_TOKEN", hide_env_values = true)]
    pub token: Option<SecretString>,
    /// Token with which builders enrol; at least 8 characters, and not the token of administrators
    #[arg(long, env = "MILLRACE_ENROL_TOKEN", hide_env_values = true)]
    pub enrol_token: Option<SecretString>,
    /// Address by which people and pollers reach this frontend, an absolute http:// or https:// URL; links begin with
    /// it
    #[arg(
        long,
        env = "MILLRACE_PUBLIC_URL",
        default_value = "http://localhost:8080"
    )]
    pub public_url: String,
    /// Defaults and bounds of what a build may use.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Caps on the number and size of what clients send.
    #[command(flatten)]
    pub caps: CapArgs,
    /// Times between frontend and builders.
    #[command(flatten)]
    pub leases: LeaseArgs,
    /// How tasks are chosen among owners and priorities.
    #[command(flatten)]
    pub fairness: FairnessArgs,
    /// How long records and files are kept.
    #[command(flatten)]
    pub keep: KeepArgs,
    /// What legacy pollers of 2012 may do.
    #[command(flatten)]
    pub legacy: LegacyArgs,
    /// Which addresses may be fetched from.
    #[command(flatten)]
    pub fetch: FetchArgs,
    /// Format and filter of the log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Defaults and bounds of a build's limits, and the classes that route it.
#[derive(Debug, Clone, clap::Args)]
pub struct LimitArgs {
    /// Memory limit of a build that asks for none, in MiB
    #[arg(long, env = "MILLRACE_DEFAULT_MEMORY_MB", default_value_t = 2048)]
    pub default_memory_mb: u32,
    /// Smallest memory a build may ask for, in MiB
    #[arg(long, env = "MILLRACE_MIN_MEMORY_MB", default_value_t = 256)]
    pub min_memory_mb: u32,
    /// Largest memory a build may ask for, in MiB
    #[arg(long, env = "MILLRACE_MAX_MEMORY_MB", default_value_t = 262_144)]
    pub max_memory_mb: u32,
    /// Time limit of each package of a build that asks for none, in seconds
    #[arg(long, env = "MILLRACE_DEFAULT_TIMEOUT_SECONDS", default_value_t = 1800)]
    pub default_timeout_seconds: u32,
    /// Shortest time limit a build may ask for, in seconds
    #[arg(long, env = "MILLRACE_MIN_TIMEOUT_SECONDS", default_value_t = 10)]
    pub min_timeout_seconds: u32,
    /// Longest time limit a build may ask for, in seconds
    #[arg(long, env = "MILLRACE_MAX_TIMEOUT_SECONDS", default_value_t = 604_800)]
    pub max_timeout_seconds: u32,
    /// Largest disk space a build may ask for, or be raised to where its project allows that, in MiB; 0: none
    #[arg(long, env = "MILLRACE_MAX_DISK_MB", default_value_t = 65_536)]
    pub max_disk_mb: u32,
    /// Upper ends of the memory classes in GiB, rising, at most 16; they name the job queues, so all frontends need the
    /// same
    #[arg(
        long,
        env = "MILLRACE_MEMORY_CLASSES_GIB",
        value_delimiter = ',',
        default_value = "2,4,8,16,32,64"
    )]
    pub memory_classes_gib: Vec<u32>,
}

/// Caps on counts and sizes.
#[derive(Debug, Clone, clap::Args)]
pub struct CapArgs {
    /// Source packages of one build at most
    #[arg(long, env = "MILLRACE_MAX_SOURCES", default_value_t = 100)]
    pub max_sources: usize,
    /// Size of a JSON body at most, in bytes
    #[arg(long, env = "MILLRACE_MAX_JSON_BYTES", default_value_t = 1 << 20)]
    pub max_json_bytes: usize,
    /// Size of an uploaded source package at most, in bytes
    #[arg(long, env = "MILLRACE_MAX_UPLOAD_BYTES", default_value_t = 2 << 30)]
    pub max_upload_bytes: u64,
    /// Size of one result file at most, in bytes
    #[arg(long, env = "MILLRACE_MAX_RESULT_BYTES", default_value_t = 4 << 30)]
    pub max_result_bytes: u64,
}

/// Times after which claims, offers and silent builders expire.
#[derive(Debug, Clone, clap::Args)]
pub struct LeaseArgs {
    /// How often builders send heartbeats, in seconds
    #[arg(long, env = "MILLRACE_HEARTBEAT_SECONDS", default_value_t = 5)]
    pub heartbeat_seconds: u32,
    /// How long a claim is valid without a heartbeat, in seconds; at least three heartbeats
    #[arg(long, env = "MILLRACE_LEASE_SECONDS", default_value_t = 45)]
    pub lease_seconds: u32,
    /// How long a claim is valid without a heartbeat once its results are on the builder's disk, in seconds; at least
    /// the lease
    #[arg(long, env = "MILLRACE_FINISH_LEASE_SECONDS", default_value_t = 1800)]
    pub finish_lease_seconds: u32,
    /// How long an offer waits for a claim before the task is offered again, in seconds; at least the lease
    #[arg(long, env = "MILLRACE_OFFER_SECONDS", default_value_t = 600)]
    pub offer_seconds: u32,
    /// Cancelled work of a builder that has sent no heartbeat for this long is revoked without waiting for its lease, in
    /// seconds; more than two heartbeats
    #[arg(long, env = "MILLRACE_SILENT_SECONDS", default_value_t = 12)]
    pub silent_seconds: u32,
    /// A builder is set aside after this many attempts in a row that ended in a fault of its own (sandbox_failed,
    /// builder_disk_full, internal_error), and returns once its self-test has passed; 0: never
    #[arg(long, env = "MILLRACE_SET_ASIDE_FAULTS", default_value_t = 3)]
    pub set_aside_faults: u32,
}

/// How tasks are chosen among owners and priorities.
#[derive(Debug, Clone, clap::Args)]
pub struct FairnessArgs {
    /// A task that has waited this long, in seconds, counts as one class of priority higher; as high only while its owner
    /// has no task on offer or running
    #[arg(long, env = "MILLRACE_PRIORITY_AGE_SECONDS", default_value_t = 3600)]
    pub priority_age_seconds: u32,
    /// Tasks of one owner that are on offer or running at the same time, at most
    #[arg(long, env = "MILLRACE_OWNER_RUNNING", default_value_t = 100_000)]
    pub owner_running: u32,
    /// A task that needs more memory than smaller ones leave waits this long, in seconds, before a builder is reserved
    /// for it; 0: never
    #[arg(long, env = "MILLRACE_RESERVE_AFTER_SECONDS", default_value_t = 300)]
    pub reserve_after_seconds: u32,
}

/// What legacy pollers of 2012 may do, and when their work is given to builders.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Pollers of 2012")]
#[expect(
    clippy::struct_field_names,
    reason = "a flag is named after its field, and flags have no group"
)]
pub struct LegacyArgs {
    /// Networks (CIDR, separated by commas) that may poll and report; empty: all
    #[arg(
        long,
        env = "MILLRACE_LEGACY_ALLOW",
        value_name = "NETWORKS",
        default_value = ""
    )]
    pub legacy_allow: AllowList,
    /// An executing poller that has sent no request for this long, in seconds, loses the builds that it has not begun
    #[arg(long, env = "MILLRACE_LEGACY_SILENCE_SECONDS", default_value_t = 300)]
    pub legacy_silence_seconds: u32,
    /// Seconds beyond packages x chroots x timeout after which a build that a poller has begun is taken from it
    #[arg(long, env = "MILLRACE_LEGACY_MARGIN_SECONDS", default_value_t = 3600)]
    pub legacy_margin_seconds: u32,
    /// Address that must answer 200 for each package before a success that a poller reported counts; off: no check
    #[arg(
        long,
        env = "MILLRACE_LEGACY_RESULTS_CHECK",
        default_value = "{results}/{chroot}/{package}/success"
    )]
    pub legacy_results_check: String,
}

/// How long records and files are kept that would otherwise grow without bound.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Retention")]
pub struct KeepArgs {
    /// Days for which idempotency keys are kept
    #[arg(long, env = "MILLRACE_KEEP_KEYS_DAYS", default_value_t = 7)]
    pub keep_keys_days: u32,
    /// Number of parked messages that are kept, the newest ones
    #[arg(long, env = "MILLRACE_KEEP_PARKED", default_value_t = 10_000)]
    pub keep_parked: u32,
    /// Days for which parked messages are kept
    #[arg(long, env = "MILLRACE_KEEP_PARKED_DAYS", default_value_t = 90)]
    pub keep_parked_days: u32,
    /// Hours for which unfinished uploads are kept after their last byte
    #[arg(long, env = "MILLRACE_STAGING_HOURS", default_value_t = 24)]
    pub staging_hours: u32,
    /// Hours for which uploaded source packages are kept that no build names
    #[arg(long, env = "MILLRACE_KEEP_ORPHAN_SOURCES_HOURS", default_value_t = 24)]
    pub keep_orphan_sources_hours: u32,
    /// Days for which logs of ended attempts are kept
    #[arg(long, env = "MILLRACE_KEEP_LOGS_DAYS", default_value_t = 365)]
    pub keep_logs_days: u32,
    /// Number of logs of ended attempts that are kept, the newest ones
    #[arg(long, env = "MILLRACE_KEEP_LOGS", default_value_t = 200_000)]
    pub keep_logs: u32,
    /// Days for which builders are kept that send no heartbeats
    #[arg(long, env = "MILLRACE_KEEP_BUILDERS_DAYS", default_value_t = 30)]
    pub keep_builders_days: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn debug_output_hides_the_tokens() {
        let cli = Cli::parse_from(["x", "--token", "hush-hush", "--enrol-token", "hush-too"]);
        assert!(!format!("{cli:?}").contains("hush"));
    }
}
