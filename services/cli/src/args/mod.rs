//! The command line. `millrace --help` is the manual.

pub mod admin;
pub mod builds;
pub mod legacy;

use clap::{Args as ClapArgs, Parser, Subcommand};

use admin::{BuilderCommand, ChrootCommand, ParkedCommand, ProjectCommand};
use builds::{Download, List, Log, Resubmit, Submit};
use legacy::{Import, PollerCommand};

/// Builds RPMs on a Millrace server.
///
/// Exit codes: 0 built (or done), 1 a package failed, 2 wrong usage or a refused request, 3 an infrastructure
/// fault or no server, 4 cancelled. With several chroots the first present of 3, 1, 4, 0 counts.
#[derive(Debug, Parser)]
#[command(name = "millrace", version, propagate_version = true)]
pub struct Args {
    #[command(flatten)]
    pub connection: Connection,
    /// Print the API's JSON instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

/// Where the server is. Flags win over the environment, that over `~/.config/millrace.toml`.
#[derive(Debug, Default, ClapArgs)]
pub struct Connection {
    /// Address of the server, such as `http://localhost:8080`.
    #[arg(long, global = true, env = "MILLRACE_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Token for writing. Better given by environment or file than on a command line that others can see.
    #[arg(
        long,
        global = true,
        env = "MILLRACE_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub token: Option<String>,
    /// Project to work in.
    #[arg(
        long,
        global = true,
        env = "MILLRACE_PROJECT",
        value_name = "OWNER/NAME"
    )]
    pub project: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Submit source packages: files (.src.rpm) or http(s) URLs, built in the given order.
    Submit(Submit),
    /// Show a build with its tasks, attempts and outcomes.
    Show {
        /// Number of the build, as `millrace list` shows it.
        build: i64,
    },
    /// List builds, newest first.
    List(List),
    /// Print the log of a build.
    Log(Log),
    /// Cancel a build: what waits ends at once, what runs is stopped.
    Cancel {
        /// Number of the build, as `millrace list` shows it.
        build: i64,
    },
    /// Submit the sources of a build again, as a new build.
    Resubmit(Resubmit),
    /// Download the result files of a build.
    Download(Download),
    /// Chroots that the server builds for.
    Chroot {
        #[command(subcommand)]
        command: ChrootCommand,
    },
    /// Messages that were taken out of the flow because they could not be processed (dead letters).
    Parked {
        #[command(subcommand)]
        command: ParkedCommand,
    },
    /// Builders that the server knows.
    Builder {
        #[command(subcommand)]
        command: BuilderCommand,
    },
    /// Projects and their settings.
    Project {
        #[command(subcommand)]
        command: ProjectCommand,
    },
    /// Give a builder no more work; it finishes what it has, and stays drained over restarts until it is undrained.
    Drain {
        /// The builder's id or name.
        builder: String,
    },
    /// Give a drained builder work again.
    Undrain {
        /// The builder's id or name.
        builder: String,
    },
    /// Pollers written for the API of 2012.
    Poller {
        #[command(subcommand)]
        command: PollerCommand,
    },
    /// Import builds of another site, with their numbers, times, owners and results.
    Import(Import),
    /// Show the state of the server, its broker, its database and its builders.
    Status,
}

#[cfg(test)]
mod tests;
