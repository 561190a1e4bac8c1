//! One function per command: call the server, print its answer, return the ending that decides the exit code.

mod builders;
mod builds;
mod chroots;
mod download;
mod import;
mod log;
mod parked;
mod pollers;
mod projects;
mod status;
mod submit;

use crate::args::admin::{BuilderCommand, ParkedCommand, ProjectCommand};
use crate::args::{Args, Command};
use crate::config::Config;
use crate::exit::Ending;
use crate::output::Output;

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<Ending> {
    let config = Config::load(args.connection)?;
    dispatch(&config, args.command, Output::from_flag(args.json)).await
}

async fn dispatch(config: &Config, command: Command, output: Output) -> anyhow::Result<Ending> {
    match command {
        Command::Submit(command) => submit::run(config, command, output).await,
        Command::Show { build } => builds::show(config, build, output).await,
        Command::List(command) => builds::list(config, command, output).await,
        Command::Log(command) => log::run(config, command, output).await,
        Command::Cancel { build } => builds::cancel(config, build, output).await,
        Command::Resubmit(command) => submit::resubmit(config, command, output).await,
        Command::Download(command) => download::run(config, command, output).await,
        Command::Chroot { command } => chroots::run(config, command, output).await,
        Command::Parked {
            command: ParkedCommand::List { limit, before },
        } => parked::list(config, limit, before, output).await,
        Command::Builder {
            command: BuilderCommand::List,
        } => builders::list(config, output).await,
        Command::Project {
            command: ProjectCommand::Show { name },
        } => projects::show(config, &name, output).await,
        Command::Project {
            command: ProjectCommand::Set { name, auto_raise },
        } => projects::set(config, &name, auto_raise, output).await,
        Command::Drain { builder } => builders::drain(config, &builder, output).await,
        Command::Undrain { builder } => builders::undrain(config, &builder, output).await,
        Command::Poller { command } => pollers::run(config, command, output).await,
        Command::Import(command) => import::run(config, command, output).await,
        Command::Status => status::show(config, output).await,
    }
}

#[cfg(test)]
mod tests;
