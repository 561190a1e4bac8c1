//! Each command from its words to the requests that it sends, against a server in the process.

use axum::response::Response;
use clap::Parser;
use serde_json::{Value, json};

use super::*;
use crate::exit::code_of_error;
use crate::testing::server::{self, Seen, Server};
use crate::testing::{attempt_json, build_json, config};

/// Runs the command of these words (separated by spaces) on the server.
async fn run_on(server: &Server, line: &str) -> anyhow::Result<Ending> {
    let words = std::iter::once("millrace").chain(line.split(' '));
    let args = Args::try_parse_from(words)?;
    let output = Output::from_flag(args.json);
    dispatch(&config(server), args.command, output).await
}

/// A server with build 7, the builders `b1` and `b2`, and an answer without content for all else.
async fn site() -> Server {
    Server::start(|seen| {
        let builders = json!({"items": [{"id": "u1", "name": "b1"}, {"id": "u2", "name": "b2"}]});
        match seen.line.as_str() {
            "GET /api/v1/builders" => server::json(&builders),
            line if line.starts_with("GET /api/v1/builds?") => server::json(&json!({"items": []})),
            line if line.contains("/api/v1/builds") => {
                server::json(&build_json("queued", &[("a-1-x", "queued")]))
            }
            _ => server::json(&json!({})),
        }
    })
    .await
}

/// The requests of a command that succeeds.
async fn requests(line: &str) -> Vec<Seen> {
    let server = site().await;
    assert_eq!(run_on(&server, line).await.unwrap(), Ending::Done, "{line}");
    server.seen()
}

#[tokio::test]
async fn each_reading_command_asks_for_what_it_shows() {
    for (line, asked) in [
        ("show 7", "/api/v1/builds/7"),
        ("list", "/api/v1/builds?limit=20"),
        (
            "list --state failed --limit 5 --before 9",
            "/api/v1/builds?limit=5&state=failed&before=9",
        ),
        ("chroot list", "/api/v1/chroots"),
        ("parked list --before 3", "/api/v1/parked?limit=20&before=3"),
        ("builder list", "/api/v1/builders"),
        ("project show a/b", "/api/v1/projects/a/b"),
        ("poller list", "/api/v1/pollers"),
        ("poller show p/1", "/api/v1/pollers/p%2F1"),
        ("poller lens p1", "/api/v1/pollers/p1/lens"),
        ("status", "/api/v1/status"),
    ] {
        for form in ["", "--json "] {
            let seen = requests(&format!("{form}{line}")).await;
            let lines: Vec<&str> = seen.iter().map(|seen| seen.line.as_str()).collect();
            assert_eq!(lines, [format!("GET {asked}")], "{line}");
        }
    }
}

#[tokio::test]
async fn each_writing_command_sends_what_was_given() {
    let none = || json!({});
    for (line, asked, body) in [
        ("cancel 7", "POST /api/v1/builds/7/cancel", none()),
        (
            "resubmit 7 --memory 5",
            "POST /api/v1/builds/7/resubmit",
            json!({"memory_reqs": 5, "timeout": null}),
        ),
        (
            "resubmit 7 --with-suggested-limits",
            "POST /api/v1/builds/7/resubmit",
            json!({"memory_reqs": null, "timeout": null, "with_suggested_limits": true}),
        ),
        (
            "chroot add a-1-x --base mock:1",
            "POST /api/v1/chroots",
            json!({"name": "a-1-x", "base": "mock:1"}),
        ),
        (
            "chroot refresh a/b",
            "POST /api/v1/chroots/a%2Fb/refresh",
            none(),
        ),
        (
            "chroot disable a-1-x",
            "POST /api/v1/chroots/a-1-x/disable",
            none(),
        ),
        (
            "chroot enable a-1-x",
            "POST /api/v1/chroots/a-1-x/enable",
            none(),
        ),
        (
            "project set a/b --auto-raise off",
            "PATCH /api/v1/projects/a/b",
            json!({"auto_raise": false}),
        ),
        ("drain b2", "POST /api/v1/builders/u2/drain", none()),
        ("undrain u1", "POST /api/v1/builders/u1/undrain", none()),
        (
            "poller add p1 --mode execute --chroot a-1-x --project-rule a/b --share 5 --fence reject",
            "POST /api/v1/pollers",
            json!({"name": "p1", "mode": "execute", "projects": ["a/b"], "chroots": ["a-1-x"],
                "share": 5, "fence": "reject"}),
        ),
        ("poller rotate p1", "POST /api/v1/pollers/p1/rotate", none()),
    ] {
        let seen = requests(line).await;
        let last = seen.last().unwrap();
        assert_eq!(last.line, asked);
        assert_eq!(last.json(), body, "{line}");
    }
    let removed = requests("poller remove p1").await;
    assert_eq!(removed[0].line, "DELETE /api/v1/pollers/p1");
}

#[tokio::test]
async fn what_has_no_idempotency_key_is_sent_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("builds.json");
    std::fs::write(&file, r#"{"builds": [{"id": 1}]}"#).unwrap();
    for line in [
        "poller add p1".to_owned(),
        "poller rotate p1".to_owned(),
        "poller remove p1".to_owned(),
        format!("import {}", file.display()),
    ] {
        let server = Server::start(|_| server::problem(503, &json!({"title": "away"}))).await;
        assert!(run_on(&server, &line).await.is_err());
        assert_eq!(server.lines().len(), 1, "{line}");
    }
}

#[tokio::test]
async fn a_drain_of_a_builder_that_there_is_not_is_wrong_usage() {
    let server = site().await;
    let error = run_on(&server, "drain b3").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no builder \"b3\"; `millrace builder list` shows all"
    );
    assert_eq!(code_of_error(&error), 2);
    assert_eq!(server.lines(), ["GET /api/v1/builders"]);
}

#[tokio::test]
async fn a_project_without_an_owner_is_refused_before_the_server_is_asked() {
    let server = site().await;
    for line in ["project show main", "project set main --auto-raise on"] {
        let error = run_on(&server, line).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"main\" is not a project; name it as OWNER/NAME"
        );
        assert_eq!(code_of_error(&error), 2);
    }
    assert!(server.lines().is_empty());
}

#[tokio::test]
async fn the_project_of_the_configuration_is_sent_with_lists_and_submits() {
    let server = site().await;
    for line in ["list", "submit http://h/a.src.rpm -r a-1-x"] {
        let args = Args::try_parse_from(["millrace"].into_iter().chain(line.split(' '))).unwrap();
        let config = Config {
            project: Some("a/b".to_owned()),
            ..config(&server)
        };
        dispatch(&config, args.command, Output::Text).await.unwrap();
    }
    let seen = server.seen();
    assert_eq!(seen[0].line, "GET /api/v1/builds?limit=20&project=a%2Fb");
    assert_eq!(seen[1].json()["project"], "a/b");
}

#[tokio::test]
async fn a_submit_passes_urls_on_and_uploads_files_in_the_given_order() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("b-1-1.src.rpm");
    std::fs::write(&file, "package").unwrap();
    let server = Server::start(|seen| {
        if seen.line.starts_with("POST /api/v1/sources") {
            return server::json(&json!({"sha256": "00ff", "name": "b-1-1.src.rpm", "size": 7}));
        }
        server::json(&build_json("queued", &[]))
    })
    .await;
    let line = format!("submit http://h/a.src.rpm {} -r a-1-x", file.display());
    assert_eq!(run_on(&server, &line).await.unwrap(), Ending::Done);
    assert_eq!(
        server.lines(),
        [
            "POST /api/v1/sources?name=b-1-1.src.rpm",
            "POST /api/v1/builds"
        ]
    );
    assert_eq!(
        server.seen()[1].json(),
        json!({
            "sources": ["http://h/a.src.rpm", {"sha256": "00ff", "name": "b-1-1.src.rpm"}],
            "chroots": ["a-1-x"], "repositories": [], "priority": null,
            "memory_reqs": null, "timeout": null,
        })
    );
}

#[tokio::test]
async fn a_source_that_is_no_url_and_no_file_is_refused_before_anything_is_uploaded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("b.src.rpm");
    std::fs::write(&file, "package").unwrap();
    let server = site().await;
    for wrong in ["missing.src.rpm", "ftp://h/a.src.rpm"] {
        let line = format!("submit {} {wrong} -r a-1-x", file.display());
        let error = run_on(&server, &line).await.unwrap_err();
        let told = format!("{wrong} is neither an http(s) URL nor a file");
        assert_eq!(error.to_string(), told);
        assert_eq!(code_of_error(&error), 2);
    }
    assert!(server.lines().is_empty());
}

/// A server that creates a build whose only task has ended in this state when it is read.
async fn server_that_ends(state: &'static str) -> Server {
    Server::start(move |seen| {
        let state = if seen.line.starts_with("POST") {
            "queued"
        } else {
            state
        };
        server::json(&build_json(state, &[("a-1-x", state)]))
    })
    .await
}

#[tokio::test]
async fn a_submit_that_waits_ends_as_its_build_and_one_that_does_not_is_done() {
    for (state, ending) in [
        ("succeeded", Ending::Done),
        ("failed", Ending::PackageFailed),
        ("cancelled", Ending::Cancelled),
    ] {
        for way in ["--wait", "--follow", "--wait --json", "--follow --json"] {
            let server = server_that_ends(state).await;
            let line = format!("submit http://h/a.src.rpm -r a-1-x {way}");
            assert_eq!(run_on(&server, &line).await.unwrap(), ending, "{line}");
            let line = format!("resubmit 7 {way}");
            assert_eq!(run_on(&server, &line).await.unwrap(), ending, "{line}");
        }
        let server = server_that_ends(state).await;
        let line = "submit http://h/a.src.rpm -r a-1-x";
        assert_eq!(run_on(&server, line).await.unwrap(), Ending::Done);
        assert_eq!(server.lines(), ["POST /api/v1/builds"]);
    }
}

/// A build of two chroots; the first has two attempts.
fn two_chroots() -> Value {
    let mut build = build_json("failed", &[("a-1-x", "failed"), ("b-1-x", "succeeded")]);
    build["tasks"][0]["attempts"] = json!([
        attempt_json(1, "lost", Some("b1")),
        attempt_json(2, "finished", Some("b2")),
    ]);
    build
}

fn logs(seen: &Seen) -> Response {
    match seen.line.as_str() {
        "GET /api/v1/builds/7" => server::json(&two_chroots()),
        line if line.contains("/log?") => server::bytes(""),
        line => server::json(&json!({"id": line, "number": 1, "state": "finished"})),
    }
}

#[tokio::test]
async fn a_log_is_that_of_the_latest_attempt_or_of_the_one_that_is_named() {
    for (line, attempt) in [
        ("log 7 -r a-1-x", "a2/log?offset=0&follow=false"),
        ("log 7 -r a-1-x --attempt 1", "a1/log?offset=0&follow=false"),
        ("log 7 -r a-1-x --json", "a2/log?offset=0&follow=false"),
        (
            "log 7 -r a-1-x --attempt 1 -f",
            "a1/log?offset=0&follow=true",
        ),
    ] {
        let server = Server::start(logs).await;
        assert_eq!(run_on(&server, line).await.unwrap(), Ending::Done);
        assert_eq!(server.lines()[1], format!("GET /api/v1/attempts/{attempt}"));
    }
}

#[tokio::test]
async fn only_a_whole_build_that_is_followed_decides_the_exit_code_of_a_log() {
    let server = Server::start(logs).await;
    let whole = run_on(&server, "log 7 -f").await.unwrap();
    assert_eq!(whole, Ending::PackageFailed);
    let task = run_on(&server, "log 7 -r a-1-x -f").await.unwrap();
    assert_eq!(task, Ending::Done);
}

#[tokio::test]
async fn a_log_that_is_not_clear_or_not_there_is_wrong_usage() {
    let server = Server::start(logs).await;
    let choose = "build 7 is built in a-1-x, b-1-x; name one of them with --chroot";
    for (line, told) in [
        ("log 7", choose),
        ("log 7 -r c-1-x", choose),
        ("log 7 -r b-1-x", "build 7 has no such attempt in b-1-x yet"),
        (
            "log 7 -r a-1-x --attempt 3",
            "build 7 has no such attempt in a-1-x yet",
        ),
        (
            "log 7 --follow --json",
            "--json and --follow do not go together: a log is text",
        ),
    ] {
        let error = run_on(&server, line).await.unwrap_err();
        assert_eq!(error.to_string(), told, "{line}");
        assert_eq!(code_of_error(&error), 2);
    }
}
