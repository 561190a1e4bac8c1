//! Commands about chroots, projects, builders and parked messages.

use clap::{Args as ClapArgs, Subcommand};

#[derive(Debug, Subcommand)]
pub enum ChrootCommand {
    /// List the chroots, with the age of their images on each builder.
    List,
    /// Add a chroot; builders bake its image, and its first builds wait for that.
    Add(AddChroot),
    /// Have a chroot's image baked anew on each engine, in the background.
    Refresh {
        /// Name of the chroot, as `millrace chroot list` shows it.
        name: String,
    },
    /// Refuse new builds in a chroot; those that were accepted before go on.
    Disable {
        /// Name of the chroot, as `millrace chroot list` shows it.
        name: String,
    },
    /// Accept builds in a disabled chroot again.
    Enable {
        /// Name of the chroot, as `millrace chroot list` shows it.
        name: String,
    },
}

#[derive(Debug, ClapArgs)]
pub struct AddChroot {
    /// Name of the chroot: distribution, version and architecture, such as fedora-44-x86_64.
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
    /// List the builders with their free room, and why one takes no work.
    List,
}

#[derive(Debug, Subcommand)]
pub enum ParkedCommand {
    /// List parked messages, newest first.
    List {
        /// How many messages, at most 100 a page.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
        limit: u32,
        /// Only messages older than this one: the next page.
        #[arg(long, value_name = "ID")]
        before: Option<i64>,
    },
}
