//! Invalid requests are answered with a problem that names the field, never with a 500, and nothing of them is stored.

use crate::support::{ADMIN, ENROL, Frontend, send};
use millrace_chassis::Method;
use serde_json::{Value, json};

fn good() -> Value {
    json!({"sources": ["http://example.org/a-1-1.src.rpm"], "chroots": ["debian-13-x86_64"]})
}

fn with(key: &str, value: Value) -> Value {
    let mut body = good();
    body[key] = value;
    body
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn a_wrong_submission_names_its_field_and_stores_nothing() {
    let frontend = Frontend::start().await;
    let before = frontend.stored().await;
    let digest = "0".repeat(64);
    let long = format!("http://example.org/{}", "x".repeat(2048));
    let cases = [
        (json!([]), "body"),
        (json!(7), "body"),
        (json!(null), "body"),
        (json!({"chroots": ["debian-13-x86_64"]}), "sources"),
        (with("sources", json!([])), "sources"),
        (with("sources", json!("http://example.org/a")), "sources"),
        (
            with("sources", json!(vec!["http://example.org/a"; 10_000])),
            "sources",
        ),
        (with("sources", json!([7])), "sources[0]"),
        (with("sources", json!([null])), "sources[0]"),
        (
            with("sources", json!([["http://example.org/a"]])),
            "sources[0]",
        ),
        (with("sources", json!([""])), "sources[0]"),
        (
            with("sources", json!(["http://exa mple.org/a"])),
            "sources[0]",
        ),
        (
            with("sources", json!(["http://example.org/a\nb"])),
            "sources[0]",
        ),
        (
            with("sources", json!(["http://example.org/'a"])),
            "sources[0]",
        ),
        (
            with("sources", json!(["http://example.org/\"a"])),
            "sources[0]",
        ),
        (
            with("sources", json!(["http://example.org/{{a}}"])),
            "sources[0]",
        ),
        (
            with("sources", json!(["http://example.org/a\u{0}"])),
            "sources[0]",
        ),
        (
            with("sources", json!(["gopher://example.org/a"])),
            "sources[0]",
        ),
        (with("sources", json!(["file:///etc/passwd"])), "sources[0]"),
        (with("sources", json!([long])), "sources[0]"),
        (with("sources", json!(["http://localhost/a"])), "sources[0]"),
        (with("sources", json!(["http://127.0.0.1/a"])), "sources[0]"),
        (with("sources", json!(["http://127.1/a"])), "sources[0]"),
        (
            with("sources", json!(["http://0x7f000001/a"])),
            "sources[0]",
        ),
        (with("sources", json!(["http://10.0.0.1/a"])), "sources[0]"),
        (
            with("sources", json!(["http://192.168.1.1/a"])),
            "sources[0]",
        ),
        (
            with("sources", json!(["http://169.254.169.254/latest"])),
            "sources[0]",
        ),
        (with("sources", json!(["http://[::1]/a"])), "sources[0]"),
        (
            with("sources", json!(["http://[::ffff:10.0.0.1]/a"])),
            "sources[0]",
        ),
        (
            with(
                "sources",
                json!(["http://example.org/a", "http://[fe80::1]/a"]),
            ),
            "sources[1]",
        ),
        (
            with("sources", json!([{"sha256": digest}])),
            "sources[0].name",
        ),
        (
            with("sources", json!([{"sha256": digest, "name": "a.src.rpm"}])),
            "sources[0].sha256",
        ),
        (
            with("sources", json!([{"sha256": "../x", "name": "a.src.rpm"}])),
            "sources[0].sha256",
        ),
        (
            with(
                "sources",
                json!([{"sha256": digest, "name": "a/../b.src.rpm"}]),
            ),
            "sources[0].name",
        ),
        (with("chroots", json!([])), "chroots"),
        (with("chroots", json!(["no-such-chroot"])), "chroots"),
        (
            with("chroots", json!(["debian-13-x86_64", "fedora-44-x86_64"])),
            "chroots",
        ),
        (
            with("chroots", json!(["debian-13-x86_64", "debian-13-x86_64"])),
            "chroots",
        ),
        (with("chroots", json!(["../../etc/passwd"])), "chroots[0]"),
        (with("chroots", json!([{}])), "chroots[0]"),
        (
            with("repositories", json!(["http://a b/"])),
            "repositories[0]",
        ),
        (
            with("repositories", json!("http://example.org/")),
            "repositories",
        ),
        (with("project", json!("nobody/nothing")), "project"),
        (with("project", json!("main")), "project"),
        (with("project", json!(1)), "project"),
        (with("memory_reqs", json!(-1)), "memory_reqs"),
        (with("memory_reqs", json!(255)), "memory_reqs"),
        (with("memory_reqs", json!("512")), "memory_reqs"),
        (with("memory_reqs", json!(512.5)), "memory_reqs"),
        (with("memory_reqs", json!(1e300)), "memory_reqs"),
        (with("timeout", json!(-30)), "timeout"),
        (with("timeout", json!(604_801)), "timeout"),
        (with("timeout", json!(u64::MAX)), "timeout"),
        (with("owner", json!("x")), "owner"),
    ];
    for (body, field) in cases {
        let context: String = body.to_string().chars().take(120).collect();
        let reply = frontend.post("/api/v1/builds", &body).await;
        reply.assert_problem(422, field, &context);
    }
    assert_eq!(frontend.stored().await, before);
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_cannot_be_read_is_refused_with_its_reason() {
    let frontend = Frontend::start().await;
    let before = frontend.stored().await;
    let post = |body: Vec<u8>, mime: &'static str| {
        let request = frontend.request(Method::POST, "/api/v1/builds", ADMIN);
        send(request.header("content-type", mime).body(body))
    };
    for broken in [
        "",
        "{",
        "{\"sources\":",
        "\u{0}\u{1}",
        "{\"sources\":[],\"chroots\":[]} x",
        "{\"sources\":[\"\\ud800\"]}",
    ] {
        let reply = post(broken.into(), "application/json").await;
        reply.assert_problem(400, "", broken);
        assert_eq!(reply.json()["type"], "urn:millrace:malformed-request");
    }
    let deep = "[".repeat(100_000);
    post(deep.into(), "application/json")
        .await
        .assert_problem(400, "", "deep");
    let invalid_utf8 = b"{\"sources\":[\"\xff\"]}".to_vec();
    assert_eq!(post(invalid_utf8, "application/json").await.status, 400);
    let large = format!("{{\"sources\":[\"{}\"]}}", "x".repeat(2 << 20));
    post(large.into(), "application/json")
        .await
        .assert_problem(413, "body", "large");
    let text = good().to_string();
    post(text.into(), "text/plain")
        .await
        .assert_problem(415, "content-type", "text");
    let key = frontend
        .request(Method::POST, "/api/v1/builds", ADMIN)
        .header("idempotency-key", "k".repeat(201))
        .json(&good());
    send(key)
        .await
        .assert_problem(422, "Idempotency-Key", "long key");
    assert_eq!(frontend.stored().await, before);
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_needs_the_right_token_and_reads_none() {
    let frontend = Frontend::start().await;
    let build = frontend.submit(json!({})).await["id"].clone();
    let before = frontend.stored().await;
    for path in [
        "/api/v1/builds".to_owned(),
        "/api/v1/sources?name=a.src.rpm".to_owned(),
        format!("/api/v1/builds/{build}/cancel"),
        format!("/api/v1/builds/{build}/resubmit"),
    ] {
        for token in ["", "wrong", ENROL, "the-admin-toke"] {
            let reply = frontend.post_as(token, &path, &good()).await;
            reply.assert_problem(401, "authorization", &path);
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        }
    }
    for path in ["enrol", "claim", "decline", "heartbeat"] {
        let path = format!("/builder/v1/{path}");
        let reply = frontend.post_as(ADMIN, &path, &json!({})).await;
        reply.assert_problem(401, "authorization", &path);
    }
    assert_eq!(frontend.stored().await, before);
    assert_eq!(frontend.get("/api/v1/builds").await.status, 200);
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_ids_paths_methods_and_parameters_are_problems() {
    let frontend = Frontend::start().await;
    let attempt = "0190f5fe-0000-7000-8000-000000000000";
    for (path, status, field) in [
        ("/api/v1/builds/999", 404, "build"),
        ("/api/v1/builds/0", 404, "build"),
        ("/api/v1/builds/-1", 404, "build"),
        ("/api/v1/builds/x", 404, "build"),
        ("/api/v1/builds/99999999999999999999", 404, "build"),
        ("/api/v1/builds/%00", 404, "build"),
        ("/api/v1/builds/%ff", 404, ""),
        ("/api/v1/builds/999/log", 404, "build"),
        ("/api/v1/tasks/999", 404, "task"),
        ("/api/v1/tasks/999/log", 404, "task"),
        ("/api/v1/attempts/7", 404, "attempt"),
        (&format!("/api/v1/attempts/{attempt}"), 404, "attempt"),
        (&format!("/api/v1/attempts/{attempt}/log"), 404, "attempt"),
        (&format!("/api/v1/attempts/{attempt}/files"), 404, "attempt"),
        (
            &format!("/api/v1/attempts/{attempt}/files/0/a.rpm"),
            404,
            "attempt",
        ),
        ("/api/v1/nonsense", 404, ""),
        ("/api/v1/builds?limit=0", 422, "limit"),
        ("/api/v1/builds?limit=x", 422, "limit"),
        ("/api/v1/builds?limit=101", 422, "limit"),
        ("/api/v1/builds?before=x", 422, "before"),
        ("/api/v1/builds?state=done", 422, "state"),
        ("/api/v1/builds?project=x", 422, "project"),
        ("/api/v1/builds?project=a/b", 404, "project"),
        ("/api/v1/parked?limit=-1", 422, "limit"),
        ("/results/main/nothing/", 404, "project"),
        ("/results/main/main/debian-13-x86_64/999/", 404, "build"),
        (
            "/results/main/main/debian-13-x86_64/999/..%2f..%2fetc",
            404,
            "build",
        ),
        ("/results/main/main/sources/00/a.src.rpm", 404, "source"),
    ] {
        frontend.get(path).await.assert_problem(status, field, path);
    }
    for (method, path) in [
        (Method::DELETE, "/api/v1/builds"),
        (Method::POST, "/api/v1/status"),
        (Method::POST, "/waiting_builds/"),
    ] {
        let reply = send(frontend.request(method, path, ADMIN)).await;
        reply.assert_problem(405, "", path);
    }
    let cancel = frontend.post("/api/v1/builds/999/cancel", &json!({})).await;
    cancel.assert_problem(404, "build", "cancel");
    let resubmit = frontend
        .post("/api/v1/builds/999/resubmit", &json!({}))
        .await;
    resubmit.assert_problem(404, "build", "resubmit");
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_over_the_cap_or_with_a_wrong_name_leaves_nothing() {
    let frontend =
        Frontend::start_with(crate::support::NOWHERE, &["--max-upload-bytes=1000"]).await;
    let post = |path: &'static str, size: usize| {
        let request = frontend.request(Method::POST, path, ADMIN);
        send(request.body(vec![7; size]))
    };
    let fits = "/api/v1/sources?name=a-1-1.src.rpm";
    post(fits, 1001)
        .await
        .assert_problem(413, "body", "announced");
    for name in ["", "a.rpm", "..%2fa.src.rpm", "a b.src.rpm", ".src.rpm"] {
        let path = format!("/api/v1/sources?name={name}");
        let request = frontend.request(Method::POST, &path, ADMIN).body(vec![7]);
        send(request).await.assert_problem(422, "name", name);
    }
    let reply = post(fits, 1000).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_from_a_builder_is_refused_too() {
    let frontend = Frontend::start().await;
    let builder = "3f2b6a10-0000-4000-8000-000000000001";
    let enrol = json!({"builder_id": builder, "name": "b", "engine_id": "e", "engine_budget_mib": 4096,
        "archs": ["x86_64"], "memory_mib": 4096, "sandboxes": 2, "version": "0"});
    for (key, value, field) in [
        ("name", json!(""), "name"),
        ("name", json!("x".repeat(65)), "name"),
        ("archs", json!([]), "archs"),
        ("archs", json!(["x/86"]), "archs[0]"),
        ("memory_mib", json!(0), "memory_mib"),
        ("memory_mib", json!(-5), "memory_mib"),
        ("memory_mib", json!(u32::MAX), "memory_mib"),
        ("sandboxes", json!(5000), "sandboxes"),
        ("builder_id", json!("x"), "builder_id"),
    ] {
        let mut body = enrol.clone();
        body[key] = value;
        let reply = frontend.post_as(ENROL, "/builder/v1/enrol", &body).await;
        reply.assert_problem(422, field, &body.to_string());
    }
    let reply = frontend.post_as(ENROL, "/builder/v1/enrol", &enrol).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let token = reply.json()["token"].as_str().unwrap().to_owned();

    let known = frontend.post_as(ENROL, "/builder/v1/enrol", &enrol).await;
    known.assert_problem(409, "", "a known id without its token");

    // With the token it is let in; where the answer is lost, the same call gets the same token.
    let mut again = enrol.clone();
    again["previous_token"] = json!(token);
    let renewed = frontend
        .post_as(ENROL, "/builder/v1/enrol", &again)
        .await
        .json();
    let repeated = frontend
        .post_as(ENROL, "/builder/v1/enrol", &again)
        .await
        .json();
    assert_eq!(renewed["token"], repeated["token"]);
    assert_ne!(renewed["token"], json!(token));
    let token = renewed["token"].as_str().unwrap().to_owned();

    let attempt = "0190f5fe-0000-7000-8000-000000000000";
    let claim = json!({"attempt_id": attempt, "nonce": "n"});
    let reply = frontend.post_as(&token, "/builder/v1/claim", &claim).await;
    reply.assert_problem(410, "", "a claim of nothing");
    assert_eq!(reply.json()["reason"], "revoked");

    let log = format!("/builder/v1/attempts/{attempt}/log?offset=0");
    let request = || frontend.request(Method::POST, &log, &token).body("x");
    send(request())
        .await
        .assert_problem(422, "millrace-lease", "no lease");
    let reply = send(request().header("millrace-lease", "x")).await;
    reply.assert_problem(410, "", "a wrong lease");

    let file = format!("/builder/v1/attempts/{attempt}/files/0/a.rpm");
    let put = || {
        let request = frontend.request(Method::PUT, &file, &token);
        request.header("millrace-lease", "x").body("x")
    };
    send(put())
        .await
        .assert_problem(422, "millrace-sha256", "no digest");
    let digest = "0".repeat(64);
    let reply = send(put().header("millrace-sha256", digest)).await;
    reply.assert_problem(410, "", "a wrong lease");
    frontend.stop().await;
}
