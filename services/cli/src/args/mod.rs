//! The command line. `millrace --help` is the manual.

mod legacy;

use clap::{Args as ClapArgs, Parser, Subcommand};
use millrace_domain::{BuildState, Priority};

pub use legacy::{AddPoller, Import, PollerCommand, Simulate};

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
#[derive(Debug, ClapArgs)]
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
        /// The build's number.
        build: i64,
    },
    /// List builds, newest first.
    List(List),
    /// Print the log of a build.
    Log(Log),
    /// Cancel a build.
    Cancel {
        /// The build's number.
        build: i64,
    },
    /// Submit a build's sources once more.
    Resubmit(Resubmit),
    /// Download the result files of a build.
    Download(Download),
    /// Chroots that the server builds for.
    Chroot {
        #[command(subcommand)]
        command: ChrootCommand,
    },
    /// Messages that were taken out of the flow because nobody understood them.
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
    /// Take in builds of another site, with their numbers, times, owners and ends.
    Import(Import),
    /// Show how the server and its builders are.
    Status,
}

#[derive(Debug, ClapArgs)]
pub struct Submit {
    /// Source packages: paths of .src.rpm files or http(s) URLs.
    #[arg(required = true, value_name = "FILE|URL")]
    pub sources: Vec<String>,
    /// Chroot to build in, such as fedora-44-x86_64; repeat it or separate several by commas.
    #[arg(
        long = "chroot",
        short = 'r',
        required = true,
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub chroots: Vec<String>,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// URL of an extra repository for build dependencies; may be repeated.
    #[arg(long = "repo", value_name = "URL")]
    pub repositories: Vec<String>,
    /// How urgent it is: background, normal or high; normal when absent.
    #[arg(long, value_name = "CLASS")]
    pub priority: Option<Priority>,
    #[command(flatten)]
    pub waiting: Waiting,
}

#[derive(Debug, ClapArgs)]
pub struct LimitArgs {
    /// Memory limit in MB (meaning MiB); the server's default when absent.
    #[arg(long, value_name = "MB")]
    pub memory: Option<i64>,
    /// Time limit of each package in seconds; the server's default when absent.
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<i64>,
    /// Disk space of each package's sandbox in MB (meaning MiB), where its builder gives less by itself.
    #[arg(long, value_name = "MB")]
    pub disk: Option<i64>,
}

impl LimitArgs {
    /// As the server is asked for them. A server of an earlier release does not know disk space.
    pub fn add_to(&self, body: &mut serde_json::Value) {
        body["memory_reqs"] = self.memory.into();
        body["timeout"] = self.timeout.into();
        if let Some(disk) = self.disk {
            body["disk"] = disk.into();
        }
    }
}

#[derive(Debug, Clone, Copy, ClapArgs)]
pub struct Waiting {
    /// Wait for the end; the exit code tells the outcome.
    #[arg(long)]
    pub wait: bool,
    /// Print the log while it is written; implies --wait.
    #[arg(long, short = 'f')]
    pub follow: bool,
}

#[derive(Debug, ClapArgs)]
pub struct List {
    /// Only builds in this state.
    #[arg(long, value_name = "STATE")]
    pub state: Option<BuildState>,
    /// How many builds, at most 100 a page.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub limit: u32,
    /// Only builds older than this one: the next page.
    #[arg(long, value_name = "BUILD")]
    pub before: Option<i64>,
}

#[derive(Debug, ClapArgs)]
pub struct Log {
    /// The build's number.
    pub build: i64,
    /// Only this chroot; needed where a build has several and --follow is not given.
    #[arg(long, short = 'r', value_name = "NAME")]
    pub chroot: Option<String>,
    /// An attempt's number; the latest when absent.
    #[arg(long, value_name = "NUMBER")]
    pub attempt: Option<u32>,
    /// Go on until the build has ended.
    #[arg(long, short = 'f')]
    pub follow: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Resubmit {
    /// The build's number.
    pub build: i64,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Take the limits that the build's outcomes suggest; --memory, --timeout and --disk go before.
    #[arg(long)]
    pub with_suggested_limits: bool,
    #[command(flatten)]
    pub waiting: Waiting,
}

#[derive(Debug, ClapArgs)]
pub struct Download {
    /// The build's number.
    pub build: i64,
    /// Folder to write to; one subfolder per chroot is made in it.
    #[arg(long, short = 'd', default_value = ".", value_name = "FOLDER")]
    pub dest: std::path::PathBuf,
    /// Only this chroot.
    #[arg(long, short = 'r', value_name = "NAME")]
    pub chroot: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum ChrootCommand {
    /// List the chroots, with the age of their images on each builder.
    List,
    /// Add a chroot; builders bake its image, and its first builds wait for that.
    Add(AddChroot),
    /// Have a chroot's image baked anew on each engine, in the background.
    Refresh {
        /// The chroot's name.
        name: String,
    },
    /// Refuse new builds in a chroot; what was accepted before goes on.
    Disable {
        /// The chroot's name.
        name: String,
    },
    /// Accept builds in a disabled chroot again.
    Enable {
        /// The chroot's name.
        name: String,
    },
}

#[derive(Debug, ClapArgs)]
pub struct AddChroot {
    /// Its name: distribution, version and architecture, such as fedora-44-x86_64.
    pub name: String,
    /// The image that its own is baked from, which has mock; without it the image is made elsewhere.
    #[arg(long, value_name = "IMAGE")]
    pub base: Option<String>,
    /// The name of its image on the engines [default: millrace/chroot-NAME]
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// The name of mock's configuration inside the base [default: the chroot's name]
    #[arg(long, value_name = "NAME")]
    pub mock_root: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum ProjectCommand {
    /// Show a project's settings.
    Show {
        /// The project, such as main/main.
        #[arg(value_name = "OWNER/NAME")]
        name: String,
    },
    /// Change a project's settings; what is not given stays.
    Set {
        /// The project, such as main/main.
        #[arg(value_name = "OWNER/NAME")]
        name: String,
        /// Whether a task that hits its limit on memory, time or disk space is tried once more with the suggested one.
        #[arg(long, value_name = "on|off", value_parser = switch, required = true)]
        auto_raise: Option<bool>,
    },
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("either on or off".to_owned()),
    }
}

#[derive(Debug, Subcommand)]
pub enum BuilderCommand {
    /// List the builders.
    List,
}

#[derive(Debug, Subcommand)]
pub enum ParkedCommand {
    /// List parked messages, newest first.
    List {
        /// How many, at most 100 a page.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
        limit: u32,
        /// Only messages older than this one: the next page.
        #[arg(long, value_name = "ID")]
        before: Option<i64>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
