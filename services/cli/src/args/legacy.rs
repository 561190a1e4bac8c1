//! Commands about the pollers of 2012, and about builds of another site.

use clap::{Args as ClapArgs, Subcommand};
use millrace_domain::{Fence, PollerMode};

#[derive(Debug, Subcommand)]
pub enum PollerCommand {
    /// Register a poller; its address and password are printed this once.
    Add(AddPoller),
    /// List the pollers, and when each polled and reported last.
    List,
    /// Show a poller's settings and when it polled and reported last.
    Show {
        /// Name of the poller, as `millrace poller list` shows it.
        name: String,
    },
    /// Remove a poller; the builds that it has go to the queue.
    Remove {
        /// Name of the poller, as `millrace poller list` shows it.
        name: String,
    },
    /// Give a poller a new address and password; the old ones are void.
    Rotate {
        /// Name of the poller, as `millrace poller list` shows it.
        name: String,
    },
    /// Show what a poller would be answered now, what it fetched and reported last, and what it has.
    Lens {
        /// Name of the poller, as `millrace poller list` shows it.
        name: String,
    },
    /// Be a poller of 2012 that builds nothing, to try a site with; runs until it is stopped.
    Simulate(Simulate),
}

#[derive(Debug, ClapArgs)]
pub struct AddPoller {
    /// Name of the poller, part of its address.
    pub name: String,
    /// observe: it sees builds and is given none. execute: it builds, and builders get none of what is routed to it.
    #[arg(long, value_name = "MODE", default_value = "observe")]
    pub mode: PollerMode,
    /// Route only builds of this project to it; may be repeated.
    #[arg(long = "project-rule", value_name = "OWNER/NAME")]
    pub projects: Vec<String>,
    /// Route only builds in this chroot to it; may be repeated, and a build in any other goes elsewhere.
    #[arg(long = "chroot", value_name = "NAME")]
    pub chroots: Vec<String>,
    /// Percentage of these builds that is routed to it.
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub share: u32,
    /// What a start report for a build that is not its own any more is answered with: ignore (200) or reject (409, which
    /// stops that worker before it builds; recommended).
    #[arg(long, value_name = "WAY", default_value = "ignore")]
    pub fence: Fence,
}

#[derive(Debug, Clone, ClapArgs)]
pub struct Simulate {
    /// The frontend's address as `millrace poller add` printed it.
    #[arg(
        long,
        env = "MILLRACE_POLLER_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub frontend_url: String,
    /// The poller's password.
    #[arg(
        long,
        env = "MILLRACE_POLLER_SECRET",
        value_name = "SECRET",
        hide_env_values = true
    )]
    pub secret: String,
    /// Folder for the files of builds that are not done.
    #[arg(long, value_name = "FOLDER")]
    pub spool: std::path::PathBuf,
    /// Address of its results, as it reports it.
    #[arg(long, value_name = "URL", default_value = "http://localhost/results")]
    pub results: String,
    /// Folder in which it leaves a marker for each package, to be served under that address.
    #[arg(long, value_name = "FOLDER")]
    pub destdir: Option<std::path::PathBuf>,
    /// Pause between two polls, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    pub sleep_millis: u64,
    /// How many builds it works on at once.
    #[arg(long, default_value_t = 5)]
    pub workers: u32,
    /// How long a machine takes to start before the build is reported as started, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    pub spawn_millis: u64,
    /// How long each package takes, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    pub build_millis: u64,
    /// End when nothing is listed and all is done.
    #[arg(long)]
    pub once: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Import {
    /// JSON file with the list `builds`, as `/waiting_builds/` gives it, and a `state` in each.
    pub file: std::path::PathBuf,
    /// Give the builds of the file that wait to the queue, also those that were imported earlier.
    #[arg(long)]
    pub release: bool,
    /// Give the builds of the file that wait to this poller.
    #[arg(long, value_name = "NAME", conflicts_with = "release")]
    pub poller: Option<String>,
}
