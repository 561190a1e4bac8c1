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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::code_of_error;
    use crate::testing::server::{self, Server};
    use crate::testing::{attempt_json, build, build_json, client, client_with, impatient};
    use serde_json::{Value, json};

    fn states() -> Vec<Value> {
        let mut running = build_json("running", &[("a-1-x", "running")]);
        let mut attempt = attempt_json(1, "claimed", Some("b1"));
        attempt["stage"] = json!("build");
        running["tasks"][0]["attempts"] = json!([attempt]);
        let mut waiting = build_json("waiting", &[("a-1-x", "waiting")]);
        waiting["tasks"][0]["wait"] = json!({"message": "behind 3 tasks", "position": 4});
        vec![
            waiting,
            running.clone(),
            running,
            build_json("succeeded", &[("a-1-x", "succeeded")]),
        ]
    }

    /// Shows the states one after another and returns what was written.
    fn shown(is_terminal: bool) -> String {
        let mut progress = Progress::new(Vec::new(), is_terminal);
        for state in states() {
            progress.show(&build(&state));
        }
        progress.end();
        String::from_utf8(progress.out).unwrap()
    }

    #[test]
    fn a_pipe_gets_a_line_per_change_without_places() {
        assert_eq!(
            shown(false),
            "build 7: a-1-x waiting\nbuild 7: a-1-x running (build)\nbuild 7: a-1-x succeeded\n"
        );
    }

    #[test]
    fn a_terminal_has_one_line_that_is_rewritten_with_the_wait_reason() {
        assert_eq!(
            shown(true),
            "\r\x1b[Kbuild 7: a-1-x waiting (behind 3 tasks, place 4 in the line)\
             \r\x1b[Kbuild 7: a-1-x running (build)\
             \r\x1b[Kbuild 7: a-1-x succeeded\n"
        );
    }

    #[test]
    fn nothing_shown_leaves_no_empty_line() {
        let mut progress = Progress::new(Vec::new(), true);
        progress.end();
        assert!(progress.out.is_empty());
    }

    #[tokio::test]
    async fn waiting_ends_with_the_first_terminal_state_over_an_outage() {
        let states = states();
        let server = Server::start(move |seen| match seen.earlier {
            0 => server::json(&states[0]),
            1 | 2 => server::problem(503, &json!({"title": "away"})),
            nth => server::json(&states[(nth - 2).min(3)]),
        })
        .await;
        let mut progress = Progress::new(Vec::new(), false);
        let ended = watch(&client(&server), 7, &mut progress).await.unwrap();
        assert_eq!(ended.object.state, millrace_domain::BuildState::Succeeded);
        assert_eq!(ended.json["state"], "succeeded");
        assert_eq!(server.lines().len(), 6);
        assert!(
            String::from_utf8(progress.out)
                .unwrap()
                .ends_with("a-1-x succeeded\n")
        );
    }

    #[tokio::test]
    async fn an_unknown_build_is_told_at_once() {
        let server =
            Server::start(|_| server::problem(404, &json!({"title": "unknown build"}))).await;
        let error = until_end(&client(&server), 7).await.unwrap_err();
        assert_eq!(error.to_string(), "unknown build");
        assert_eq!((code_of_error(&error), server.lines().len()), (2, 1));
    }

    #[tokio::test]
    async fn a_server_that_stays_away_ends_the_waiting_but_not_the_build() {
        let server = Server::start(|_| server::problem(503, &json!({"title": "away"}))).await;
        let client = client_with(&server, impatient());
        let error = until_end(&client, 7).await.unwrap_err();
        let text = error.to_string();
        assert!(text.ends_with("build 7 goes on without you"), "{text}");
    }
}
