//! The simulated poller against a frontend in the process.

use axum::response::Response;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::exit::code_of_error;
use crate::testing::server::{self, Seen, Server};

fn listed(owner: &str, chroot: &str) -> Value {
    json!({"id": 5, "user_id": 1, "pkgs": "http://h/a-1-1.src.rpm", "chroots": chroot, "repos": "",
        "memory_reqs": 2048, "timeout": 1800, "copr": {"id": 1, "name": "p", "owner": {"name": owner}}})
}

fn options(server: &Server, folder: &TempDir) -> Simulate {
    Simulate {
        frontend_url: server.url().to_owned(),
        secret: "s3cret".to_owned(),
        spool: folder.path().join("spool"),
        results: "http://results/".to_owned(),
        destdir: Some(folder.path().join("results")),
        sleep_millis: 1,
        workers: 2,
        spawn_millis: 0,
        build_millis: 0,
        once: true,
    }
}

/// Runs until all is done; a poller that never ends fails the test in place of hanging it.
async fn simulate(server: &Server, folder: &TempDir) -> anyhow::Result<Ending> {
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, run(options(server, folder)))
        .await
        .expect("the simulated poller does not end")
}

/// A frontend that lists this build and answers reports with this status.
async fn frontend(build: Value, status: u16) -> Server {
    Server::start(move |seen| answer(seen, &build, status)).await
}

fn answer(seen: &Seen, build: &Value, status: u16) -> Response {
    match seen.line.as_str() {
        "GET /waiting_builds/" => server::json(&json!({ "builds": [build] })),
        _ => server::answer(status, "application/json", "{}"),
    }
}

fn reports(server: &Server) -> Vec<Seen> {
    let mut seen = server.seen();
    seen.retain(|seen| seen.line == "POST /update_builds/");
    seen
}

#[tokio::test]
async fn a_listed_build_is_reported_as_started_and_ended_and_leaves_a_marker() {
    let folder = tempfile::tempdir().unwrap();
    let server = frontend(listed("o", "f-17-i386"), 200).await;
    assert_eq!(simulate(&server, &folder).await.unwrap(), Ending::Done);
    let reports = reports(&server);
    assert_eq!(reports.len(), 2);
    let [started, ended] = [0, 1].map(|nth: usize| reports[nth].json()["builds"][0].clone());
    assert_eq!(started["results"], "http://results/o/p/");
    assert!(started["started_on"].is_f64() && ended["ended_on"].is_f64());
    assert_eq!((&ended["id"], &ended["status"]), (&json!(5), &json!(1)));
    // `user:s3cret` in base64.
    assert_eq!(reports[0].header("authorization"), "Basic dXNlcjpzM2NyZXQ=");
    let marker = folder.path().join("results/o/p/f-17-i386/a-1-1/success");
    assert!(marker.is_file());
    let spool = folder.path().join("spool");
    assert!(spooled(&spool).unwrap().is_empty());
}

#[tokio::test]
async fn a_build_that_an_earlier_process_left_is_started_without_being_listed() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    std::fs::write(spool.join("5.json"), listed("o", "f-17-i386").to_string()).unwrap();
    let server = Server::start(|_| server::json(&json!({"builds": []}))).await;
    simulate(&server, &folder).await.unwrap();
    assert_eq!(reports(&server).len(), 2);
}

#[tokio::test]
async fn a_report_that_is_refused_ends_the_work_on_its_build_and_leaves_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let server = frontend(listed("o", "f-17-i386"), 409).await;
    simulate(&server, &folder).await.unwrap();
    assert_eq!(reports(&server).len(), 1);
    assert!(!folder.path().join("results").exists());
    assert_eq!(spooled(&folder.path().join("spool")).unwrap(), ["5"]);
}

#[tokio::test]
async fn a_name_that_could_leave_its_folder_gets_no_marker() {
    for (owner, chroot) in [("..", "f-17-i386"), ("o", ".."), ("o", "/tmp")] {
        let folder = tempfile::tempdir().unwrap();
        let server = frontend(listed(owner, chroot), 200).await;
        simulate(&server, &folder).await.unwrap();
        assert!(!folder.path().join("results").exists(), "{owner} {chroot}");
        assert_eq!(reports(&server).len(), 1, "the end is not reported");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_json_ends_the_poller() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|_| server::answer(502, "text/html", "<html>")).await;
    let error = simulate(&server, &folder).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("the frontend's answer is not JSON: "),
        "{text}"
    );
    assert_eq!(code_of_error(&error), 3);
}

#[tokio::test]
async fn a_connection_that_breaks_is_forgiven() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|seen| match seen.earlier {
        0 => server::broken(b"{"),
        _ => server::json(&json!({"builds": []})),
    })
    .await;
    // The broken list counts as an empty one, and with nothing to do the poller ends.
    assert_eq!(simulate(&server, &folder).await.unwrap(), Ending::Done);
}
