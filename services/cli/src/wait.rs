//! Waiting for the end of a build, through outages of the server, with its progress on stderr.

use std::io::{IsTerminal, Stderr, Write};

use crate::client::{Answer, Client, build_path};
use crate::model::Build;
use crate::render;

/// Waits until the build has ended.
pub async fn until_end(client: &Client, build: i64) -> anyhow::Result<Answer<Build>> {
    watch(client, build, &mut Progress::stderr()).await
}

async fn watch<W: Write>(
    client: &Client,
    build: i64,
    progress: &mut Progress<W>,
) -> anyhow::Result<Answer<Build>> {
    let mut interval = tokio::time::interval(client.timing().build_poll);
    loop {
        interval.tick().await;
        let answer = read_build(client, build).await?;
        progress.show(&answer.object);
        if answer.object.state.is_terminal() {
            progress.end();
            return Ok(answer);
        }
    }
}

/// Reads a build, and repeats that for as long as the server may be away.
pub async fn read_build(client: &Client, build: i64) -> anyhow::Result<Answer<Build>> {
    let remains = format!("build {build} goes on without you");
    client
        .get_through_outage(&build_path(build), &remains)
        .await
}

/// One line that is rewritten on a terminal, or a line per change in a pipe.
#[derive(Debug)]
struct Progress<W> {
    out: W,
    is_terminal: bool,
    last: String,
}

impl Progress<Stderr> {
    fn stderr() -> Self {
        let stderr = std::io::stderr();
        let is_terminal = stderr.is_terminal();
        Self::new(stderr, is_terminal)
    }
}

impl<W: Write> Progress<W> {
    const fn new(out: W, is_terminal: bool) -> Self {
        Self {
            out,
            is_terminal,
            last: String::new(),
        }
    }

    /// Shows the build's state if the line changed. Wait reasons are shown on a terminal only: a task's place changes all
    /// the time, and a pipe would get a line for each change. Progress that cannot be written is left out.
    fn show(&mut self, build: &Build) {
        let line = render::builds::progress(build, self.is_terminal);
        if line == self.last {
            return;
        }
        if self.is_terminal {
            write!(self.out, "\r\x1b[K{line}").ok();
        } else {
            writeln!(self.out, "{line}").ok();
        }
        self.out.flush().ok();
        self.last = line;
    }

    /// Ends the line that was rewritten.
    fn end(&mut self) {
        if self.is_terminal && !self.last.is_empty() {
            writeln!(self.out).ok();
        }
    }
}
