//! Following the logs of attempts and tasks, against a server in the process.

use std::time::{Duration, Instant};

use super::*;
use crate::exit::code_of_error;
use crate::retry::{Pauses, Timing};
use crate::testing::server::{self, Seen, Server};
use crate::testing::{attempt_json, build_json, client, client_with, impatient, quick};
use axum::response::Response;
use serde_json::{Value, json};

const LOG: &str = "GET /api/v1/attempts/a1/log?offset=";
const STATE: &str = "GET /api/v1/attempts/a1";

fn printer() -> LogPrinter<Vec<u8>> {
    LogPrinter::new(Vec::new(), None, false)
}

fn away() -> Response {
    server::problem(503, &json!({"title": "database away"}))
}

fn finished() -> Response {
    server::json(&attempt_json(1, "finished", Some("b1")))
}

/// A follower that never ends fails the test in place of hanging it.
async fn bounded<T>(following: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(30);
    let ended = tokio::time::timeout(limit, following).await;
    ended.expect("the follower does not end")
}

/// Follows attempt `a1` of a server that answers so; returns what was printed and what was asked for.
async fn follow_log(
    answer: impl Fn(&Seen) -> Response + Send + Sync + 'static,
) -> (anyhow::Result<String>, Vec<String>) {
    let server = Server::start(answer).await;
    let mut printer = printer();
    let client = client(&server);
    let result = bounded(live_log(&client, "a1", &mut printer)).await;
    let text = String::from_utf8(printer.into_inner()).unwrap();
    (result.map(|()| text), server.lines())
}

#[tokio::test]
async fn a_log_that_ends_is_read_once_more_behind_its_end() {
    let (text, asked) = follow_log(|seen| match seen.line.as_str() {
        STATE => finished(),
        line if line.ends_with("offset=0&follow=true") => server::bytes("one\n"),
        _ => server::bytes("written in between\n"),
    })
    .await;
    assert_eq!(text.unwrap(), "one\nwritten in between\n");
    assert_eq!(
        asked,
        [
            format!("{LOG}0&follow=true"),
            STATE.to_owned(),
            format!("{LOG}4&follow=true"),
        ]
    );
}

#[tokio::test]
async fn a_stream_that_ends_while_the_attempt_goes_on_is_opened_again() {
    let (text, asked) = follow_log(|seen| match (seen.line.as_str(), seen.earlier) {
        (STATE, 0) => server::json(&attempt_json(1, "claimed", Some("b1"))),
        (STATE, _) => finished(),
        (line, _) if line.ends_with("offset=0&follow=true") => server::bytes("one\n"),
        (line, 0) if line.ends_with("offset=4&follow=true") => server::bytes("two\n"),
        _ => server::bytes(""),
    })
    .await;
    assert_eq!(text.unwrap(), "one\ntwo\n");
    let logs = asked.iter().filter(|line| line.starts_with(LOG));
    assert_eq!(logs.count(), 3, "{asked:?}");
}

#[tokio::test]
async fn a_server_that_ends_each_stream_at_once_is_asked_again_after_a_pause_only() {
    let pause = Duration::from_millis(20);
    let server = Server::start(|seen| match (seen.line.as_str(), seen.earlier) {
        (STATE, 0..4) => server::json(&attempt_json(1, "claimed", Some("b1"))),
        (STATE, _) => finished(),
        _ => server::bytes(""),
    })
    .await;
    let timing = Timing {
        log_pauses: Pauses {
            first: pause,
            longest: pause,
        },
        ..quick()
    };
    let client = client_with(&server, timing);
    let begin = Instant::now();
    bounded(live_log(&client, "a1", &mut printer()))
        .await
        .unwrap();
    // Jitter may halve a pause.
    assert!(begin.elapsed() >= 4 * pause / 2);
}

#[tokio::test]
async fn a_stream_that_breaks_goes_on_at_the_byte_where_it_broke() {
    let (text, asked) = follow_log(|seen| match seen.line.as_str() {
        STATE => finished(),
        line if line.ends_with("offset=0&follow=true") => server::broken(b"gr\xc3"),
        line if line.ends_with("offset=3&follow=true") => server::bytes(b"\xbcn\n".to_vec()),
        _ => server::bytes(""),
    })
    .await;
    assert_eq!(text.unwrap(), "grün\n");
    assert_eq!(asked[1], format!("{LOG}3&follow=true"));
    assert!(asked.contains(&format!("{LOG}6&follow=true")), "{asked:?}");
}

#[tokio::test]
async fn an_outage_in_the_middle_of_a_log_costs_no_byte() {
    let (text, _) = follow_log(|seen| match (seen.line.as_str(), seen.earlier) {
        (STATE, 0) => away(),
        (STATE, _) => finished(),
        (line, 0) if line.ends_with("offset=0&follow=true") => server::broken(b"one\n"),
        (line, 0..3) if line.ends_with("offset=4&follow=true") => away(),
        (line, 3) if line.ends_with("offset=4&follow=true") => server::bytes("two\n"),
        _ => server::bytes(""),
    })
    .await;
    assert_eq!(text.unwrap(), "one\ntwo\n");
}

#[tokio::test]
async fn a_log_that_was_removed_ends_with_the_servers_words() {
    let (result, asked) =
        follow_log(|_| server::problem(410, &json!({"title": "the log was removed"}))).await;
    let error = result.unwrap_err();
    assert_eq!(error.to_string(), "the log was removed");
    assert_eq!((code_of_error(&error), asked.len()), (2, 1));
}

#[tokio::test]
async fn a_server_that_stays_away_ends_the_following() {
    let server = Server::start(|_| away()).await;
    let client = client_with(&server, impatient());
    let error = live_log(&client, "a1", &mut printer()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.ends_with("the log goes on without you"), "{text}");
    assert_eq!(code_of_error(&error), 3);
}

/// Follows the only task of a build that is shown so the first, second, … time; each attempt's log is its id.
async fn follow_task(builds: Vec<Value>, printer: &mut LogPrinter<Vec<u8>>) -> anyhow::Result<()> {
    let server = Server::start(move |seen| {
        let (_, path) = seen.line.split_once(' ').unwrap();
        if path == "/api/v1/builds/7" {
            return server::json(&builds[seen.earlier.min(builds.len() - 1)]);
        }
        let attempt = path.trim_start_matches("/api/v1/attempts/");
        let (id, log) = attempt.split_once('/').unwrap_or((attempt, ""));
        match log {
            "" => server::json(&json!({"id": id, "number": 1, "state": "finished"})),
            "log?offset=0&follow=true" => server::bytes(format!("log of {id}\n")),
            _ => server::bytes(""),
        }
    })
    .await;
    bounded(task(&client(&server), 7, "f-1-x", printer)).await
}

fn with_attempts(state: &str, attempts: &[Value]) -> Value {
    let mut build = build_json(state, &[("f-1-x", state)]);
    build["tasks"][0]["attempts"] = json!(attempts);
    build
}

#[tokio::test]
async fn a_tasks_attempts_are_printed_in_order_and_each_once() {
    let first = attempt_json(1, "lost", Some("b1"));
    let second = attempt_json(2, "finished", Some("b2"));
    let builds = vec![
        with_attempts("queued", &[]),
        with_attempts("running", std::slice::from_ref(&first)),
        with_attempts("queued", std::slice::from_ref(&first)),
        with_attempts("succeeded", &[second, first]),
    ];
    let mut printer = printer();
    follow_task(builds, &mut printer).await.unwrap();
    assert_eq!(
        String::from_utf8(printer.into_inner()).unwrap(),
        "log of a1\n-- attempt 2 on b2 --\nlog of a2\n"
    );
}

#[tokio::test]
async fn an_attempt_that_no_builder_took_has_no_log() {
    let offered = attempt_json(1, "revoked", None);
    let mut printer = printer();
    follow_task(vec![with_attempts("cancelled", &[offered])], &mut printer)
        .await
        .unwrap();
    assert!(printer.into_inner().is_empty());
}

#[tokio::test]
async fn a_chroot_in_which_the_build_is_not_built_is_wrong_usage() {
    let build = build_json("running", &[("other", "running")]);
    let error = follow_task(vec![build], &mut printer()).await.unwrap_err();
    assert_eq!(error.to_string(), "build 7 is not built in f-1-x");
    assert_eq!(code_of_error(&error), 2);
}

#[tokio::test]
async fn a_present_log_is_read_without_waiting_for_more() {
    let server = Server::start(|_| server::bytes("so far")).await;
    let client = client(&server);
    let mut printer = printer();
    print_present(&client, "a1", &mut printer).await.unwrap();
    assert_eq!(printer.into_inner(), b"so far");
    assert_eq!(read_present(&client, "a1").await.unwrap(), b"so far");
    assert_eq!(server.lines(), vec![format!("{LOG}0&follow=false"); 2]);
}

#[tokio::test]
async fn a_present_log_that_breaks_off_is_never_taken_for_whole() {
    let server = Server::start(|_| server::broken(b"half")).await;
    let client = client(&server);
    let error = print_present(&client, "a1", &mut printer()).await;
    assert!(error.unwrap_err().to_string().contains("broke off"));
    let error = read_present(&client, "a1").await;
    assert!(error.unwrap_err().to_string().contains("broke off"));
}
