//! `millrace log`: the log of one attempt, or with `--follow` those of a task or a whole build while they are written.

use serde_json::json;

use crate::args::builds::Log;
use crate::client::{Answer, build_path};
use crate::config::Config;
use crate::error::UsageError;
use crate::exit::Ending;
use crate::follow;
use crate::log_printer::LogPrinter;
use crate::model::{Attempt, Build, Task};
use crate::output::Output;

/// Prints the log. Only a followed build decides the exit code: a log that was printed is done, however the build ended.
pub async fn run(config: &Config, command: Log, output: Output) -> anyhow::Result<Ending> {
    let client = &config.client;
    let answer: Answer<Build> = client.get(&build_path(command.build)).await?;
    if output.is_json() && command.follow {
        return Err(
            UsageError("--json and --follow do not go together: a log is text".to_owned()).into(),
        );
    }
    if command.follow && command.attempt.is_none() && command.chroot.is_none() {
        let build = follow::build(client, &answer.object).await?.object;
        return Ok(Ending::of_build(&build));
    }
    let task = one_task(&answer.object, command.chroot.as_deref())?;
    let mut printer = LogPrinter::stdout(None);
    if command.follow && command.attempt.is_none() {
        follow::task(client, command.build, &task.chroot, &mut printer).await?;
        return Ok(Ending::Done);
    }
    let attempt = one_attempt(command.build, task, command.attempt)?;
    if output.is_json() {
        let text = follow::read_present(client, &attempt.id).await?;
        println!(
            "{}",
            json!({ "attempt": attempt.id, "log": String::from_utf8_lossy(&text) })
        );
        return Ok(Ending::Done);
    }
    if command.follow {
        follow::live_log(client, &attempt.id, &mut printer).await?;
    } else {
        follow::print_present(client, &attempt.id, &mut printer).await?;
    }
    printer.finish()?;
    Ok(Ending::Done)
}

/// The task in `chroot`; without one the only task of the build.
fn one_task<'a>(build: &'a Build, chroot: Option<&str>) -> Result<&'a Task, UsageError> {
    build.task(chroot).ok_or_else(|| {
        let names: Vec<&str> = build.tasks.iter().map(|t| t.chroot.as_str()).collect();
        UsageError(format!(
            "build {} is built in {}; name one of them with --chroot",
            build.id,
            names.join(", ")
        ))
    })
}

/// The attempt with this number; without one the latest that a builder took.
fn one_attempt(build: i64, task: &Task, number: Option<u32>) -> Result<&Attempt, UsageError> {
    let attempt = match number {
        Some(number) => task.attempts.iter().find(|a| a.number == number),
        None => task.latest_attempt(),
    };
    attempt.ok_or_else(|| {
        UsageError(format!(
            "build {build} has no such attempt in {} yet",
            task.chroot
        ))
    })
}
