//! Submit, list, cancel and resubmit, all without a broker: the state of builds is the database's.

use std::time::Instant;

use millrace_chassis::Method;
use serde_json::{Value, json};

use crate::support::{ADMIN, Frontend, Reply, send};

async fn submit_with_key(frontend: &Frontend, key: &str, body: &Value) -> Reply {
    let request = frontend.request(Method::POST, "/api/v1/builds", ADMIN);
    send(request.header("idempotency-key", key).json(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_stored_as_it_was_submitted() {
    let frontend = Frontend::start().await;
    let build = frontend
        .submit(json!({
            "project": "main/main",
            "sources": ["http://example.org/b-1-1.src.rpm", "http://example.org/a-1-1.src.rpm"],
            "chroots": ["debian-13-x86_64", "debian-13-aarch64"],
            "repositories": ["http://example.org/repo/$basearch/"],
            "memory_reqs": 512, "timeout": 60
        }))
        .await;
    assert_eq!(build["state"], "waiting");
    assert_eq!(
        (&build["owner"], &build["project"]),
        (&json!("main"), &json!("main"))
    );
    assert_eq!(
        build["limits"],
        json!({"memory_mib": 512, "timeout_seconds": 60})
    );
    assert_eq!(build["sources"][1]["name"], "a-1-1.src.rpm");
    assert_eq!(
        build["repositories"],
        json!(["http://example.org/repo/$basearch/"])
    );
    let task = &build["tasks"][1];
    assert_eq!(task["chroot"], "debian-13-aarch64");
    assert_eq!(
        (&task["state"], &task["outcome"]),
        (&json!("waiting"), &Value::Null)
    );
    assert_eq!(task["attempts"], json!([]));

    let shown = frontend
        .get(&format!("/api/v1/builds/{}", build["id"]))
        .await
        .json();
    let without_wait = |mut build: Value| {
        for task in build["tasks"].as_array_mut().unwrap() {
            task["wait"].take();
        }
        build
    };
    assert_eq!(without_wait(shown.clone()), build);
    let wait = &shown["tasks"][0]["wait"];
    assert_eq!(wait["reason"], "no_builder");
    assert_eq!(
        wait["message"],
        "no builder offers this architecture (x86_64)"
    );
    let task = frontend
        .get(&format!("/api/v1/tasks/{}", build["tasks"][0]["id"]))
        .await
        .json();
    assert_eq!(task, shown["tasks"][0]);
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twins_with_one_key_make_one_build() {
    let frontend = Frontend::start().await;
    let body =
        json!({"sources": ["http://example.org/a.src.rpm"], "chroots": ["debian-13-x86_64"]});
    let twins =
        futures_util::future::join_all((0..8).map(|_| submit_with_key(&frontend, "k1", &body)))
            .await;
    let ids: Vec<Value> = twins.iter().map(|twin| twin.json()["id"].clone()).collect();
    assert!(twins.iter().all(|twin| twin.status == 201), "{twins:?}");
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");

    let spaced = json!({"chroots": ["debian-13-x86_64"], "sources": ["http://example.org/a.src.rpm"], "timeout": null});
    assert_eq!(
        submit_with_key(&frontend, "k1", &spaced).await.json()["id"],
        ids[0]
    );

    let other =
        json!({"sources": ["http://example.org/b.src.rpm"], "chroots": ["debian-13-x86_64"]});
    let reused = submit_with_key(&frontend, "k1", &other).await;
    reused.assert_problem(422, "Idempotency-Key", "another body");
    assert_ne!(
        submit_with_key(&frontend, "k2", &body).await.json()["id"],
        ids[0]
    );
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_every_build_once_newest_first() {
    let frontend = Frontend::start().await;
    for _ in 0..5 {
        frontend.submit(json!({})).await;
    }
    let mut seen = Vec::new();
    let mut path = "/api/v1/builds?limit=2&project=main/main&state=waiting".to_owned();
    loop {
        let page = frontend.get(&path).await.json();
        seen.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|b| b["id"].as_i64().unwrap()),
        );
        let Some(next) = page["next"].as_i64() else {
            break;
        };
        path = format!("/api/v1/builds?limit=2&before={next}");
    }
    assert_eq!(seen, [5, 4, 3, 2, 1]);
    let none = frontend.get("/api/v1/builds?state=running").await.json();
    assert_eq!(none, json!({"items": [], "next": null}));
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_build_ends_at_once_and_can_be_submitted_again() {
    let frontend = Frontend::start().await;
    let build = frontend.submit(json!({"memory_reqs": 300})).await["id"].clone();
    let cancelled = frontend
        .post(&format!("/api/v1/builds/{build}/cancel"), &json!({}))
        .await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.text());
    let view = cancelled.json();
    assert_eq!(view["state"], "cancelled");
    assert_eq!(view["tasks"][0]["outcome"]["kind"], "cancelled");
    let again = frontend
        .post(&format!("/api/v1/builds/{build}/cancel"), &json!({}))
        .await;
    again.assert_problem(409, "", "it has ended");

    let path = format!("/api/v1/builds/{build}/resubmit");
    let same = send(frontend.request(Method::POST, &path, ADMIN)).await;
    assert_eq!(same.status, 201, "{}", same.text());
    let same = same.json();
    assert_eq!(same["resubmit_of"], build);
    assert_eq!(
        (&same["sources"], &same["chroots"], &same["limits"]),
        (&view["sources"], &view["chroots"], &view["limits"])
    );
    let larger = frontend
        .post(&path, &json!({"memory_reqs": 4096}))
        .await
        .json();
    assert_eq!(
        larger["limits"],
        json!({"memory_mib": 4096, "timeout_seconds": 1800})
    );
    let wrong = frontend.post(&path, &json!({"timeout": 1})).await;
    wrong.assert_problem(422, "timeout", "out of bounds");
    let typo = frontend.post(&path, &json!({"memory": 1})).await;
    typo.assert_problem(422, "memory", "unknown field");
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_built_from_and_readable_under_its_public_address() {
    let frontend = Frontend::start().await;
    let bytes = vec![42; 300_000];
    let request = frontend.request(Method::POST, "/api/v1/sources?name=a%5E1-1.src.rpm", ADMIN);
    let uploaded = send(request.body(bytes.clone())).await;
    assert_eq!(uploaded.status, 201, "{}", uploaded.text());
    let uploaded = uploaded.json();
    assert_eq!(
        (&uploaded["name"], &uploaded["size"]),
        (&json!("a^1-1.src.rpm"), &json!(300_000))
    );

    let build = frontend.submit(json!({"sources": [uploaded]})).await;
    let source = &build["sources"][0];
    assert_eq!(source["sha256"], uploaded["sha256"]);
    let url = source["url"].as_str().unwrap();
    let path = url.strip_prefix("http://public.example:8080").unwrap();
    assert!(path.ends_with(".src.rpm"), "{path}");
    let file = frontend.get(path).await;
    assert_eq!((file.status, &file.body), (200, &bytes));
    assert_eq!(file.header("x-content-type-options"), Some("nosniff"));
    let part = send(
        frontend
            .request(Method::GET, path, "")
            .header("range", "bytes=10-19"),
    )
    .await;
    assert_eq!((part.status, part.body.len()), (206, 10));
    assert_eq!(part.header("content-range"), Some("bytes 10-19/300000"));
    let beyond = send(
        frontend
            .request(Method::GET, path, "")
            .header("range", "bytes=300000-"),
    )
    .await;
    beyond.assert_problem(416, "range", "beyond the end");

    let wrong = json!({"sources": [{"sha256": uploaded["sha256"], "name": "a.src.rpm", "size": 1}], "chroots": ["debian-13-x86_64"]});
    frontend
        .post("/api/v1/builds", &wrong)
        .await
        .assert_problem(422, "sources[0].size", "size");

    let list = frontend.get("/backend/waiting_builds/").await.json();
    assert_eq!(list["builds"][0]["pkgs"], url);
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pollers_of_2012_see_the_oldest_builds_on_all_four_addresses() {
    let frontend = Frontend::start().await;
    let empty = frontend.get("/waiting_builds/").await;
    assert!(empty.text().contains("\"builds\": []"), "{}", empty.text());
    for _ in 0..12 {
        frontend.submit(json!({})).await;
    }
    frontend.post("/api/v1/builds/2/cancel", &json!({})).await;
    let list = frontend.get("/waiting_builds/").await;
    assert_eq!(list.content_type, "application/json");
    assert_eq!(list.header("cache-control"), Some("no-store"));
    let ids: Vec<i64> = list.json()["builds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| b["id"].as_i64().unwrap())
        .collect();
    assert_eq!(ids, [1, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    for path in [
        "/waiting_builds",
        "/backend/waiting_builds",
        "/backend/waiting_builds/",
    ] {
        assert_eq!(frontend.get(path).await.body, list.body, "{path}");
        let head = send(frontend.request(Method::HEAD, path, "")).await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
    }
    for (query, count) in [
        ("limit=1", 1),
        ("limit=0", 1),
        ("limit=999999", 11),
        ("limit=x", 10),
    ] {
        let reply = frontend.get(&format!("/waiting_builds/?{query}")).await;
        assert_eq!(
            (
                reply.status,
                reply.json()["builds"].as_array().unwrap().len()
            ),
            (200, count),
            "{query}"
        );
    }
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_everyone_is_told_to_come_back_and_pollers_see_an_empty_list() {
    let frontend = Frontend::start_without_database().await;
    let begun = Instant::now();
    let list = frontend.get("/waiting_builds/").await;
    assert!(begun.elapsed().as_secs_f64() < 2.0);
    assert_eq!((list.status, list.json()), (503, json!({"builds": []})));
    assert!(list.header("retry-after").is_some());
    let refused = frontend.post("/api/v1/builds", &json!({})).await;
    refused.assert_problem(503, "", "no database");
    assert!(refused.header("retry-after").is_some());
    assert!(refused.json()["id"].is_string());
    assert_eq!(frontend.get("/healthz").await.status, 200);
    assert_eq!(frontend.get("/readyz").await.status, 503);
    let status = frontend.get("/api/v1/status").await.json();
    assert_eq!(status["database"]["up"], false);
    assert_eq!(status["broker"]["up"], false);
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kept_openapi_document_is_the_served_one() {
    let frontend = Frontend::start_without_database().await;
    let served = frontend.get("/api/v1/openapi.json").await.json();
    let kept = include_str!("../../../../schemas/http/openapi.json");
    // Both are pages long, so a failure only says that they differ.
    assert!(
        served == serde_json::from_str::<Value>(kept).unwrap(),
        "run make schemas"
    );
    frontend.stop().await;
}
