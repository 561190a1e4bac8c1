//! A poller that executes: fetching its list claims the builds in it.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use millrace_chassis::Method;
use serde_json::json;
use tokio::net::TcpListener;

use super::{Poller, ids, state_of};
use crate::support::{Frontend, NOWHERE, send};

#[tokio::test(flavor = "multi_thread")]
async fn only_a_get_claims_and_only_below_the_own_address() {
    let frontend = Frontend::start().await;
    let poller = Poller::add(&frontend, "old", "execute", json!({})).await;
    for _ in 0..12 {
        frontend.submit(json!({})).await;
    }
    let path = format!("{}/waiting_builds/", poller.path);
    let ten: Vec<i64> = (1..=10).collect();
    let peek = frontend.get(&format!("{path}?peek=1")).await;
    assert_eq!(ids(&peek.json()), ten);
    let head = send(frontend.request(Method::HEAD, &path, "")).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(ids(&frontend.get("/waiting_builds/").await.json()), ten);
    assert_eq!(state_of(&frontend, 1).await, "waiting");
    let waits = frontend.get("/api/v1/builds/1").await.json();
    assert_eq!(waits["tasks"][0]["wait"]["reason"], "poller");

    let list = poller.fetch(&frontend).await;
    assert_eq!((list.status, ids(&list.json())), (200, ten.clone()));
    assert_eq!(list.body, peek.body);
    assert_eq!(state_of(&frontend, 1).await, "queued");
    let shown = frontend.get("/api/v1/builds/1").await.json();
    assert_eq!(shown["tasks"][0]["attempts"][0]["poller"], "old");
    for path in [
        poller.path.clone() + "/waiting_builds",
        poller.path.replace("/backend", "") + "/waiting_builds/",
    ] {
        assert_eq!(
            ids(&frontend.get(&path).await.json()),
            ten,
            "its own again: {path}"
        );
    }
    assert_eq!(
        ids(&frontend.get("/waiting_builds/").await.json()),
        [11, 12]
    );

    let unknown = frontend.get("/legacy/0000/backend/waiting_builds/").await;
    assert_eq!(
        (unknown.status, unknown.json()),
        (404, json!({"builds": []}))
    );
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poller_that_dies_gives_its_builds_to_the_queue() {
    let frontend = Frontend::start().await;
    let poller = Poller::add(&frontend, "old", "execute", json!({})).await;
    for _ in 0..2 {
        frontend.submit(json!({})).await;
    }
    poller.listed(&frontend).await;
    poller
        .report(&frontend, json!([{"id": 1, "started_on": 7}]))
        .await;
    assert_eq!(state_of(&frontend, 1).await, "running");
    let died =
        "update attempts set lease_until = now() - interval '1 second' where state = 'claimed'";
    frontend.database().execute(died).await;
    frontend
        .until("both wait", async |f| {
            state_of(f, 1).await == "waiting" && state_of(f, 2).await == "waiting"
        })
        .await;
    let wait = frontend.get("/api/v1/builds/2").await.json()["tasks"][0]["wait"].clone();
    assert_eq!(wait["reason"], "no_builder", "the queue's: {wait}");
    let late = poller
        .report(&frontend, json!([{"id": 1, "ended_on": 9, "status": 1}]))
        .await;
    assert_eq!(
        (late.status, late.json()["ignored_builds_ids"].clone()),
        (200, json!([1]))
    );
    assert_eq!(poller.listed(&frontend).await, [0; 0]);
    frontend.stop().await;
}

/// Serves a poller's results: package `good` has its `success` file in one chroot only, `bad` in none.
async fn results() -> String {
    let router = Router::new()
        .route(
            "/results/main/main/debian-13-x86_64/good-1-1/success",
            get(|| async { "" }),
        )
        .fallback(|| async { StatusCode::NOT_FOUND });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/results/main/main/")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_counts_where_its_results_are() {
    let frontend = Frontend::start_with(NOWHERE, &["--fetch-allow=127.0.0.0/8"]).await;
    let poller = Poller::add(&frontend, "old", "execute", json!({})).await;
    let good = json!(["http://example.org/good-1-1.src.rpm"]);
    let bad = json!([
        "http://example.org/good-1-1.src.rpm",
        "http://example.org/bad-1-1.src.rpm"
    ]);
    frontend.submit(json!({ "sources": good })).await;
    frontend.submit(json!({ "sources": bad })).await;
    let chroots = json!(["debian-13-x86_64", "debian-13-aarch64"]);
    frontend
        .submit(json!({ "sources": good, "chroots": chroots }))
        .await;
    frontend.submit(json!({ "sources": good })).await;
    poller.listed(&frontend).await;
    let results = results().await;
    let mut report: Vec<_> = (1..=3)
        .map(
            |id| json!({"id": id, "started_on": 1, "results": results, "ended_on": 2, "status": 1}),
        )
        .collect();
    report.push(json!({"id": 4, "status": 1}));
    assert_eq!(poller.report(&frontend, json!(report)).await.status, 200);
    let over =
        async |f: &Frontend, build| matches!(&*state_of(f, build).await, "succeeded" | "failed");
    frontend
        .until("all are judged", async |f| {
            over(f, 1).await && over(f, 2).await && over(f, 3).await && over(f, 4).await
        })
        .await;
    let shown = async |build: i64| {
        frontend
            .get(&format!("/api/v1/builds/{build}"))
            .await
            .json()
    };
    assert_eq!(shown(1).await["state"], "succeeded");
    let message = shown(2).await["tasks"][0]["outcome"]["message"].clone();
    assert!(
        message
            .as_str()
            .unwrap()
            .contains("/debian-13-x86_64/bad-1-1/success is not there"),
        "{message}"
    );
    let states: Vec<_> = shown(3).await["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["state"].clone())
        .collect();
    assert_eq!(states, ["succeeded", "failed"], "each chroot by itself");
    let message = shown(4).await["tasks"][0]["outcome"]["message"].clone();
    assert!(
        message.as_str().unwrap().contains("named no address"),
        "{message}"
    );
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_not_public_is_not_asked() {
    let frontend = Frontend::start().await;
    let poller = Poller::add(&frontend, "old", "execute", json!({})).await;
    frontend.submit(json!({})).await;
    poller.listed(&frontend).await;
    let results = results().await;
    let report = json!([{"id": 1, "results": results, "status": 1}]);
    poller.report(&frontend, report).await;
    frontend
        .until("judged", async |f| state_of(f, 1).await == "failed")
        .await;
    let message =
        frontend.get("/api/v1/builds/1").await.json()["tasks"][0]["outcome"]["message"].clone();
    assert!(
        message.as_str().unwrap().contains("MILLRACE_FETCH_ALLOW"),
        "{message}"
    );
    frontend.stop().await;
}
