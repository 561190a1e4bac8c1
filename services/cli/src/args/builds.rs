//! Commands about builds: submit, list, log, resubmit, download.

use clap::Args as ClapArgs;
use millrace_domain::{BuildState, Priority};

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
    /// Disk space of each package's sandbox in MB (meaning MiB), where its builder would give less.
    #[arg(long, value_name = "MB")]
    pub disk: Option<i64>,
}

impl LimitArgs {
    /// Adds the limits to a request. Disk space that is not asked for is left out: a server of the first release does not
    /// know the field.
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
    /// Wait for the end; the exit code says how it ended.
    #[arg(long)]
    pub wait: bool,
    /// Print the log while it is written; implies --wait.
    #[arg(long, short = 'f')]
    pub follow: bool,
}

#[derive(Debug, ClapArgs)]
pub struct List {
    /// Only builds in this state: running, queued, waiting, failed, cancelled or succeeded.
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
    /// Number of the build, as `millrace list` shows it.
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
    /// Number of the build, as `millrace list` shows it.
    pub build: i64,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Take the limits that the build's outcomes suggest; --memory, --timeout and --disk win over them.
    #[arg(long)]
    pub with_suggested_limits: bool,
    #[command(flatten)]
    pub waiting: Waiting,
}

#[derive(Debug, ClapArgs)]
pub struct Download {
    /// Number of the build, as `millrace list` shows it.
    pub build: i64,
    /// Folder to write to; one subfolder per chroot is made in it.
    #[arg(long, short = 'd', default_value = ".", value_name = "FOLDER")]
    pub dest: std::path::PathBuf,
    /// Only the results of this chroot.
    #[arg(long, short = 'r', value_name = "NAME")]
    pub chroot: Option<String>,
}
