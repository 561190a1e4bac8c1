//! Reading logs: what there is of one, one that is still written, and the logs of all attempts of a task in order.

use std::io::Write;

use anyhow::Context;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use millrace_chassis::{ApiError, Response};

use crate::client::{Answer, Client};
use crate::error::UsageError;
use crate::log_printer::LogPrinter;
use crate::model::{Attempt, Build, Task};
use crate::retry::Outage;
use crate::wait;

/// Prints the logs of all tasks of a build while they are written, then returns the build as it ended.
pub async fn build(client: &Client, build: &Build) -> anyhow::Result<Answer<Build>> {
    let several = build.tasks.len() > 1;
    try_join_all(build.tasks.iter().map(async |task| {
        let mut printer = LogPrinter::stdout(several.then(|| task.chroot.clone()));
        self::task(client, build.id, &task.chroot, &mut printer).await
    }))
    .await?;
    wait::until_end(client, build.id).await
}

/// Prints the logs of a task's attempts, one after another, until the task has ended.
pub async fn task<W: Write>(
    client: &Client,
    build: i64,
    chroot: &str,
    printer: &mut LogPrinter<W>,
) -> anyhow::Result<()> {
    let mut last_printed = 0;
    let mut interval = tokio::time::interval(client.timing().attempt_poll);
    loop {
        interval.tick().await;
        let answer = wait::read_build(client, build).await?;
        let task = answer
            .object
            .task(Some(chroot))
            .ok_or_else(|| UsageError(format!("build {build} is not built in {chroot}")))?;
        if let Some(attempt) = next_attempt(task, last_printed) {
            if last_printed > 0 {
                printer.note(&format!(
                    "attempt {} on {}",
                    attempt.number,
                    builder_of(attempt)
                ))?;
            }
            live_log(client, &attempt.id, printer).await?;
            last_printed = attempt.number;
        } else if task.state.is_terminal() {
            return printer.finish();
        }
    }
}

/// The first attempt after number `last_printed` that a builder took; one that no builder took has no log.
fn next_attempt(task: &Task, last_printed: u32) -> Option<&Attempt> {
    task.attempts
        .iter()
        .filter(|a| a.builder.is_some() && a.number > last_printed)
        .min_by_key(|a| a.number)
}

fn builder_of(attempt: &Attempt) -> &str {
    attempt
        .builder
        .as_ref()
        .map_or("an unknown builder", |b| b.name())
}

/// Prints one attempt's log to its end. A connection that breaks is made again from the byte that comes next, for as
/// long as the server may be away.
///
/// The end of a stream alone proves nothing, since a server that stops ends its streams in good order too. So the
/// attempt is read after it: when it has ended, the log is read once more, for what was written in between.
pub async fn live_log<W: Write>(
    client: &Client,
    attempt: &str,
    printer: &mut LogPrinter<W>,
) -> anyhow::Result<()> {
    let mut offset = 0_u64;
    let mut has_ended = false;
    let mut outage = Outage::new(client.timing().outage_limit, client.timing().log_pauses);
    loop {
        match open(client, attempt, offset, true).await {
            Ok(response) => {
                let before = offset;
                let is_whole = copy(response, printer, &mut offset).await?;
                if is_whole && has_ended {
                    return Ok(());
                }
                if is_whole {
                    has_ended = has_attempt_ended(client, attempt).await;
                    if has_ended {
                        continue;
                    }
                }
                outage.note_answer(offset > before);
                outage.pause().await;
            }
            Err(error) => {
                outage
                    .bear(error.into(), "the log goes on without you")
                    .await?;
            }
        }
    }
}

/// Whether the server says that nothing more can come of an attempt; false while it does not answer.
async fn has_attempt_ended(client: &Client, attempt: &str) -> bool {
    let path = format!("/api/v1/attempts/{attempt}");
    match client.get::<Attempt>(&path).await {
        Ok(answer) => answer.object.has_ended(),
        Err(_) => false,
    }
}

async fn open(
    client: &Client,
    attempt: &str,
    offset: u64,
    follow: bool,
) -> Result<Response, ApiError> {
    let path = format!("/api/v1/attempts/{attempt}/log?offset={offset}&follow={follow}");
    client.open(&path).await
}

/// Prints what arrives and adds its length to `offset`; false when the stream broke before its end.
async fn copy<W: Write>(
    response: Response,
    printer: &mut LogPrinter<W>,
    offset: &mut u64,
) -> anyhow::Result<bool> {
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let Ok(chunk) = chunk else { return Ok(false) };
        *offset += chunk.len() as u64;
        printer.write(&chunk)?;
    }
    Ok(true)
}

/// Prints what there is of one attempt's log now.
pub async fn print_present<W: Write>(
    client: &Client,
    attempt: &str,
    printer: &mut LogPrinter<W>,
) -> anyhow::Result<()> {
    let response = open(client, attempt, 0, false).await?;
    let is_whole = copy(response, printer, &mut 0).await?;
    anyhow::ensure!(is_whole, "the log broke off; run the command again");
    Ok(())
}

/// What there is of one attempt's log now.
pub async fn read_present(client: &Client, attempt: &str) -> anyhow::Result<Vec<u8>> {
    let mut chunks = open(client, attempt, 0, false).await?.bytes_stream();
    let mut text = Vec::new();
    while let Some(chunk) = chunks.next().await {
        text.extend_from_slice(&chunk.context("the log broke off; run the command again")?);
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
