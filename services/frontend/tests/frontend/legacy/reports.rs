//! `POST|PUT /update_builds/`: who may report, which keys have an effect, and what is answered.

use millrace_chassis::Method;
use serde_json::json;

use super::{Poller, state_of, update};
use crate::support::{Frontend, send};

/// A frontend with a poller that has builds 1 to `count`.
async fn with_builds(count: usize, more: serde_json::Value) -> (Frontend, Poller) {
    let frontend =
        Frontend::start_with(crate::support::NOWHERE, &["--legacy-results-check=off"]).await;
    let poller = Poller::add(&frontend, "old", "execute", more).await;
    for _ in 0..count {
        frontend.submit(json!({})).await;
    }
    assert_eq!(poller.listed(&frontend).await.len(), count);
    (frontend, poller)
}

#[tokio::test(flavor = "multi_thread")]
async fn updating_requires_the_password_and_no_certain_user() {
    let (frontend, poller) = with_builds(1, json!({})).await;
    let body = json!({"builds": [{"id": 1, "status": 0}]}).to_string();
    let own = format!("{}/update_builds/", poller.path);
    for path in ["/backend/update_builds/", "/update_builds", &own] {
        for secret in ["", "wrong", "the-admin-token"] {
            let reply = update(&frontend, Method::POST, path, secret, body.clone()).await;
            assert_eq!(reply.status, 401, "{path}");
            assert_eq!(reply.text(), "You have to provide the correct password");
            assert!(
                reply.content_type.starts_with("text/plain"),
                "{}",
                reply.content_type
            );
            assert_eq!(reply.header("www-authenticate"), None);
        }
    }
    let none = send(frontend.request(Method::POST, &own, "").body(body.clone())).await;
    assert_eq!(none.status, 401);
    assert_eq!(state_of(&frontend, 1).await, "queued");
    let request = frontend.request(Method::PUT, "/backend/update_builds", "");
    let request = request
        .basic_auth("anybody", Some(&poller.secret))
        .body(body);
    let reply = send(request.header("content-type", "text/plain")).await;
    assert_eq!(
        (reply.status, &*reply.content_type),
        (200, "application/json")
    );
    assert_eq!(state_of(&frontend, 1).await, "failed");
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_stopped_for_a_while() {
    let (frontend, poller) = with_builds(1, json!({})).await;
    let mut last = 0;
    for _ in 0..100 {
        let reply = update(
            &frontend,
            Method::POST,
            "/update_builds/",
            "guess",
            "{}".to_owned(),
        )
        .await;
        last = reply.status;
        if last != 401 {
            break;
        }
    }
    assert_eq!(last, 429);
    assert_eq!(poller.report(&frontend, json!([])).await.status, 429);
    assert_eq!(
        poller.fetch(&frontend).await.status,
        200,
        "lists need no password"
    );
    frontend.stop().await;
}

/// The three update tests of 2012, with their values.
#[tokio::test(flavor = "multi_thread")]
async fn an_ended_build_is_updated_as_in_2012() {
    let (frontend, poller) = with_builds(3, json!({})).await;
    let report = json!([{"id": 1, "copr_id": 2, "results": "http://server/results/foo/bar/",
        "started_on": 1234, "ended_on": 12345, "status": 1}]);
    let reply = poller.report(&frontend, report).await.json();
    assert_eq!(reply["updated_builds_ids"], json!([1]));
    assert_eq!(reply["non_existing_builds_ids"], json!([]));
    let build = frontend.get("/api/v1/builds/1").await.json();
    assert_eq!(build["state"], "succeeded");
    assert_eq!(build["tasks"][0]["started_at"], "1970-01-01T00:20:34Z");
    assert_eq!(build["tasks"][0]["ended_at"], "1970-01-01T03:25:45Z");
    let stored = "select results_url from builds where id = 1";
    let results = frontend.database().fetch_text(stored).await;
    assert_eq!(results.as_deref(), Some("http://server/results/foo/bar/"));

    let several = json!([
        {"id": 2, "started_on": 139_086_644.3, "status": null, "ended_on": null},
        {"id": 123_321, "copr_id": 1, "started_on": 1},
        {"id": 1_234_321, "status": 0},
        {"id": 3, "status": 0, "ended_on": 139_086_645.9},
        {"id": 1, "status": 0},
    ]);
    let reply = poller.report(&frontend, several).await.json();
    assert_eq!(reply["updated_builds_ids"], json!([2, 3]));
    assert_eq!(
        reply["non_existing_builds_ids"],
        json!([123_321, 1_234_321])
    );
    assert_eq!(reply["ignored_builds_ids"], json!([1]), "it is over");
    let started = frontend.get("/api/v1/builds/2").await.json();
    assert_eq!(started["tasks"][0]["started_at"], "1974-05-29T19:10:44Z");
    let states = [
        state_of(&frontend, 1).await,
        state_of(&frontend, 2).await,
        state_of(&frontend, 3).await,
    ];
    assert_eq!(states, ["succeeded", "running", "failed"]);
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_entries_for_one_build_the_later_wins_and_nulls_change_nothing() {
    let (frontend, poller) = with_builds(2, json!({})).await;
    let report = json!([{"id": 1, "status": 0}, {"id": 1, "status": null, "started_on": 5}, {"id": 2, "results": null}]);
    let reply = poller.report(&frontend, report).await.json();
    assert_eq!(reply["updated_builds_ids"], json!([1, 2]));
    assert_eq!(state_of(&frontend, 1).await, "running");
    assert_eq!(state_of(&frontend, 2).await, "queued");
    let ended = json!([{"id": 1, "ended_on": 9}]);
    poller.report(&frontend, ended).await;
    let build = frontend.get("/api/v1/builds/1").await.json();
    assert_eq!(build["state"], "failed");
    let message = build["tasks"][0]["outcome"]["message"].as_str().unwrap();
    assert!(message.starts_with("unknown"), "{message}");
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_list_is_a_warning_and_what_is_malformed_applies_nothing() {
    let (frontend, poller) = with_builds(2, json!({})).await;
    let empty = poller.report(&frontend, json!([])).await;
    assert_eq!(
        (empty.status, empty.json()),
        (200, json!({"warning": "No parsed builds"}))
    );
    let path = format!("{}/update_builds/", poller.path);
    for body in [
        "",
        "{",
        "[]",
        r#"{"builds": 1}"#,
        r#"{"builds": [{"id": 1, "status": 0}, {"id": "two"}]}"#,
        r#"{"builds": [{"id": 1, "status": 0}, {}]}"#,
        "{\"builds\": [{\"id\": 1, \"status\": 0, \"results\": {}}]}",
    ] {
        let reply = update(
            &frontend,
            Method::POST,
            &path,
            &poller.secret,
            body.to_owned(),
        )
        .await;
        assert_eq!(
            (reply.status, &*reply.content_type),
            (400, "application/json"),
            "{body}"
        );
        assert!(reply.json()["error"].is_string(), "{body}");
    }
    assert_eq!(state_of(&frontend, 1).await, "queued");
    let large = format!("{{\"builds\": [], \"x\": \"{}\"}}", "x".repeat(2 << 20));
    let reply = update(&frontend, Method::POST, &path, &poller.secret, large).await;
    assert_eq!(reply.status, 413);
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_watches_changes_nothing() {
    let (frontend, _) = with_builds(1, json!({"share": 100})).await;
    let watcher = Poller::add(&frontend, "watcher", "observe", json!({})).await;
    let reply = watcher
        .report(&frontend, json!([{"id": 1, "status": 0}, {"id": 7}]))
        .await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.json(),
        json!({"updated_builds_ids": [], "non_existing_builds_ids": [7], "ignored_builds_ids": [1]})
    );
    assert_eq!(state_of(&frontend, 1).await, "queued");
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_claim_is_ignored_or_rejected_at_the_start() {
    for (fence, status) in [("ignore", 200), ("reject", 409)] {
        let (frontend, poller) = with_builds(2, json!({ "fence": fence })).await;
        frontend.post("/api/v1/builds/1/cancel", &json!({})).await;
        let start = json!([{"id": 1, "started_on": 7}, {"id": 2, "started_on": 7}]);
        let reply = poller.report(&frontend, start).await;
        assert_eq!(reply.status, status, "{fence}");
        assert_eq!(reply.json()["ignored_builds_ids"], json!([1]));
        assert_eq!(reply.json()["updated_builds_ids"], json!([2]));
        let late = poller
            .report(&frontend, json!([{"id": 1, "ended_on": 8, "status": 1}]))
            .await;
        assert_eq!(late.status, 200, "only a start can be stopped");
        assert_eq!(state_of(&frontend, 1).await, "cancelled");
        frontend.stop().await;
    }
}
