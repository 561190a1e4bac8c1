//! Logs: a whole one, a live one, and one after another over the attempts of a task.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::Context;
use futures_util::StreamExt;
use millrace_chassis::{
    ApiClient, ApiError, Backoff, BackoffExt, CancellationToken, Method, Response,
};
use millrace_domain::AttemptState;
use tokio::time::Instant;

use crate::client;
use crate::exit::Usage;
use crate::model::{Attempt, Task};
use crate::{render, wait};

/// How often a task without an attempt is looked at.
const INTERVAL: Duration = Duration::from_millis(300);

/// Prints the logs of a task's attempts until the task has ended.
pub async fn task(api: &ApiClient, build: i64, chroot: &str, prefixed: bool) -> anyhow::Result<()> {
    let mut printer = Printer::new(prefixed.then(|| chroot.to_owned()));
    let mut done = 0;
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        interval.tick().await;
        let answer = wait::patiently(api, build).await?;
        let task = answer
            .object
            .task(Some(chroot))
            .ok_or_else(|| Usage(format!("build {build} is not built in {chroot}")))?;
        if let Some(attempt) = next_attempt(task, done) {
            if done > 0 {
                printer.note(&format!(
                    "attempt {} on {}",
                    attempt.number,
                    builder_of(attempt)
                ))?;
            }
            stream(api, &attempt.id, &mut printer).await?;
            done = attempt.number;
        } else if task.state.is_terminal() {
            return printer.finish();
        }
    }
}

fn next_attempt(task: &Task, done: u32) -> Option<&Attempt> {
    task.attempts
        .iter()
        .filter(|a| a.builder.is_some() && a.number > done)
        .min_by_key(|a| a.number)
}

fn builder_of(attempt: &Attempt) -> &str {
    attempt
        .builder
        .as_ref()
        .map_or("an unknown builder", |b| b.name())
}

/// Follows one attempt's log to its end, taking it up again where the connection broke, for as long as the server may
/// be away.
async fn stream(api: &ApiClient, attempt: &str, printer: &mut Printer) -> anyhow::Result<()> {
    let mut offset = 0_u64;
    let mut was_over = false;
    let mut backoff = Backoff::new(Duration::from_millis(300), Duration::from_secs(5));
    let mut heard = Instant::now();
    loop {
        match open(api, attempt, offset, true).await {
            Ok(response) => {
                let before = offset;
                if copy(response, printer, &mut offset).await? {
                    // A server that stops ends its streams in good order too.
                    if was_over {
                        return Ok(());
                    }
                    was_over = is_over(api, attempt).await;
                    if was_over {
                        // What was written in between is still to be read.
                        continue;
                    }
                }
                if offset > before {
                    backoff.reset();
                }
                heard = Instant::now();
            }
            Err(error) if error.is_transient() && heard.elapsed() <= wait::PATIENCE => {}
            Err(error) if error.is_transient() => {
                let reason = error.to_string();
                return Err(wait::gave_up(&reason, "the log goes on without you").into());
            }
            Err(error) => return Err(error.into()),
        }
        backoff.pause(&CancellationToken::new()).await;
    }
}

/// Whether nothing more can come of an attempt; not known to be, where the server does not say.
async fn is_over(api: &ApiClient, attempt: &str) -> bool {
    let path = format!("/api/v1/attempts/{attempt}");
    match client::get::<Attempt>(api, &path).await {
        Ok(answer) => !matches!(
            answer.object.state,
            AttemptState::Offered | AttemptState::Claimed
        ),
        Err(_) => false,
    }
}

async fn open(
    api: &ApiClient,
    attempt: &str,
    offset: u64,
    follow: bool,
) -> Result<Response, ApiError> {
    let path = format!("/api/v1/attempts/{attempt}/log?offset={offset}&follow={follow}");
    api.send(api.request(Method::GET, &path)).await
}

/// Prints what arrives; false when the stream broke before its end.
async fn copy(response: Response, printer: &mut Printer, offset: &mut u64) -> anyhow::Result<bool> {
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let Ok(chunk) = chunk else { return Ok(false) };
        *offset += chunk.len() as u64;
        printer.write(&chunk)?;
    }
    Ok(true)
}

/// Prints one attempt's log, to its end or as far as it goes now.
pub async fn print_attempt(api: &ApiClient, attempt: &str, follow: bool) -> anyhow::Result<()> {
    let mut printer = Printer::new(None);
    if follow {
        stream(api, attempt, &mut printer).await?;
    } else {
        let whole = copy(open(api, attempt, 0, false).await?, &mut printer, &mut 0).await?;
        anyhow::ensure!(whole, "the log broke off; run the command again");
    }
    printer.finish()
}

/// The log as far as it goes now.
pub async fn whole(api: &ApiClient, attempt: &str) -> anyhow::Result<Vec<u8>> {
    let mut chunks = open(api, attempt, 0, false).await?.bytes_stream();
    let mut text = Vec::new();
    while let Some(chunk) = chunks.next().await {
        text.extend_from_slice(&chunk.context("the log broke off; run the command again")?);
    }
    Ok(text)
}

/// Writes log bytes to stdout: as they are into a pipe, harmless on a terminal, prefixed line by line
/// where several logs share the output.
struct Printer {
    prefix: Option<String>,
    line: Vec<u8>,
    is_terminal: bool,
}

impl Printer {
    fn new(prefix: Option<String>) -> Self {
        Self {
            prefix,
            line: Vec::new(),
            is_terminal: std::io::stdout().is_terminal(),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if self.prefix.is_none() && !self.is_terminal {
            return emit(bytes);
        }
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            self.line.extend_from_slice(part);
            // A line without an end would otherwise grow without bound.
            if part.ends_with(b"\n") || self.line.len() > 64 * 1024 {
                self.flush_line()?;
            }
        }
        Ok(())
    }

    fn flush_line(&mut self) -> anyhow::Result<()> {
        let line = std::mem::take(&mut self.line);
        let text = render::plain(&String::from_utf8_lossy(&line));
        let text = text.trim_end_matches('\n');
        match &self.prefix {
            Some(prefix) => emit(format!("{prefix}: {text}\n").as_bytes()),
            None => emit(format!("{text}\n").as_bytes()),
        }
    }

    fn note(&mut self, text: &str) -> anyhow::Result<()> {
        self.finish()?;
        self.write(format!("-- {text} --\n").as_bytes())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        if self.line.is_empty() {
            Ok(())
        } else {
            self.flush_line()
        }
    }
}

fn emit(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .context("cannot write the log")
}
