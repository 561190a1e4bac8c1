//! `GET /waiting_builds/`: which builds it lists, with which keys, in which bytes.

use std::time::Instant;

use millrace_chassis::Method;
use serde_json::{Value, json};

use super::{Poller, ids};
use crate::support::{Frontend, NOWHERE, send};

const PATHS: [&str; 4] = [
    "/waiting_builds/",
    "/waiting_builds",
    "/backend/waiting_builds/",
    "/backend/waiting_builds",
];

async fn set(frontend: &Frontend, what: &str) {
    frontend.database().execute(what).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn zero_ten_and_eleven_builds_oldest_first_on_all_addresses() {
    let frontend = Frontend::start().await;
    let empty = frontend.get("/backend/waiting_builds/").await;
    // What the test of 2012 looks for.
    assert!(empty.text().contains("\"builds\": []"), "{}", empty.text());
    for _ in 0..10 {
        frontend.submit(json!({})).await;
    }
    let ten: Vec<i64> = (1..=10).collect();
    assert_eq!(ids(&frontend.get("/waiting_builds/").await.json()), ten);
    frontend.submit(json!({})).await;
    // Equal times: then the lower number is the older build.
    set(
        &frontend,
        "update builds set submitted_at = '2012-10-29 10:00:00+00'",
    )
    .await;
    set(
        &frontend,
        "update builds set submitted_at = '2012-10-29 09:00:00+00' where id = 11",
    )
    .await;
    let expected: Vec<i64> = [11].into_iter().chain(1..=9).collect();
    let first = frontend.get(PATHS[0]).await;
    assert_eq!(ids(&first.json()), expected);
    assert_eq!(first.content_type, "application/json");
    assert_eq!(first.header("cache-control"), Some("no-store"));
    for path in PATHS {
        let request = frontend
            .request(Method::GET, path, "")
            .header("accept", "text/html");
        let reply = send(request).await;
        assert_eq!((reply.status, &reply.body), (200, &first.body), "{path}");
        assert_eq!(
            reply.content_type, "application/json",
            "whatever is accepted"
        );
        let head = send(frontend.request(Method::HEAD, path, "")).await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(
            head.header("content-length"),
            first.header("content-length")
        );
    }
    for (query, count) in [
        ("limit=11", 11),
        ("limit=0", 1),
        ("limit=2000", 11),
        ("limit=x", 10),
        ("%ff", 10),
    ] {
        let reply = frontend.get(&format!("/waiting_builds/?{query}")).await;
        assert_eq!(
            (reply.status, ids(&reply.json()).len()),
            (200, count),
            "{query}"
        );
    }
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_started_and_ended_builds_are_not_listed() {
    let frontend = Frontend::start().await;
    for _ in 0..5 {
        frontend.submit(json!({})).await;
    }
    frontend.post("/api/v1/builds/1/cancel", &json!({})).await;
    let poller = Poller::add(&frontend, "old", "execute", json!({})).await;
    // Routed to the poller; started, ended, and ended with its start report lost.
    for _ in 6..=8 {
        frontend.submit(json!({})).await;
    }
    assert_eq!(poller.listed(&frontend).await, [6, 7, 8]);
    let report = json!([
        {"id": 6, "started_on": 1234.5},
        {"id": 7, "started_on": 1234.5, "ended_on": 1235, "status": 0},
        {"id": 8, "ended_on": 1235, "status": 0},
    ]);
    assert_eq!(poller.report(&frontend, report).await.status, 200);
    let over = "update tasks set state = 'failed', outcome = '{\"kind\": \"build_failed\", \"message\": \"x\"}', ended_at = now() where build_id = 2";
    set(&frontend, over).await;
    assert_eq!(
        ids(&frontend.get("/waiting_builds/").await.json()),
        [3, 4, 5]
    );
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_has_its_type_and_what_is_joined_is_joined_by_one_space() {
    let frontend = Frontend::start().await;
    frontend
        .submit(json!({
            "sources": ["http://example.org/foo-1-1.src.rpm", "http://example.org/spam-2-1.src.rpm"],
            "chroots": ["debian-13-x86_64", "debian-13-aarch64"],
            "repositories": ["http://example.org/a", "http://example.org/b/$basearch/"],
        }))
        .await;
    frontend.submit(json!({})).await;
    set(&frontend, "update projects set chroots = '{fedora-44-x86_64}', repositories = '{http://now/}', created_at = 'epoch'").await;
    set(
        &frontend,
        "update builds set submitted_at = to_timestamp(1351770919.7 + id)",
    )
    .await;
    let list = frontend.get("/waiting_builds/").await.json();
    let copr = json!({"id": 1, "name": "main", "owner_id": 1, "repos": "http://now/", "chroots": "fedora-44-x86_64",
        "created_on": 0, "owner": {"id": 1, "name": "main"}});
    assert_eq!(
        list,
        json!({"builds": [{
            "id": 1, "copr_id": 1, "user_id": 1,
            "pkgs": "http://example.org/foo-1-1.src.rpm http://example.org/spam-2-1.src.rpm",
            "chroots": "debian-13-x86_64 debian-13-aarch64",
            "repos": "http://example.org/a http://example.org/b/$basearch/",
            "submitted_on": 1_351_770_920, "started_on": null, "ended_on": null, "results": null,
            "canceled": false, "status": null, "timeout": 1800, "memory_reqs": 2048, "copr": copr,
        }, {
            "id": 2, "copr_id": 1, "user_id": 1, "pkgs": "http://example.org/a-1-1.src.rpm",
            "chroots": "debian-13-x86_64", "repos": "",
            "submitted_on": 1_351_770_921, "started_on": null, "ended_on": null, "results": null,
            "canceled": false, "status": null, "timeout": 1800, "memory_reqs": 2048, "copr": copr,
        }]})
    );
    set(&frontend, "update projects set repositories = '{}'").await;
    let oct = frontend.get("/waiting_builds/?shape=oct&limit=1").await;
    assert_eq!(
        oct.json(),
        json!({"builds": [{
            "copr_id": 1, "user_id": 1, "results": null, "started_on": null,
            "copr": {"owner_id": 1, "repos": null, "chroots": "fedora-44-x86_64", "id": 1, "name": "main"},
            "canceled": false, "submitted_on": 1_351_770_920, "ended_on": null,
            "pkgs": "http://example.org/foo-1-1.src.rpm http://example.org/spam-2-1.src.rpm",
            "chroots": "debian-13-x86_64 debian-13-aarch64", "id": 1,
        }]})
    );
    let nov = frontend.get("/waiting_builds/?shape=nov&limit=1").await;
    assert_eq!(
        nov.json(),
        json!({"builds": [{
            "user_id": 1, "submitted_on": 1_351_770_920, "repos": "http://example.org/a http://example.org/b/$basearch/",
            "results": null, "started_on": null,
            "copr": {"owner": {"id": 1, "name": "main"}, "name": "main", "id": 1},
            "canceled": false, "ended_on": null,
            "pkgs": "http://example.org/foo-1-1.src.rpm http://example.org/spam-2-1.src.rpm",
            "chroots": "debian-13-x86_64 debian-13-aarch64", "timeout": 1800, "memory_reqs": 2048, "id": 1,
        }]})
    );
    assert!(
        nov.text().contains("\n      \"canceled\": false,"),
        "{}",
        nov.text()
    );
    frontend.stop().await;
}

/// What `copr-be.py` and `dispatcher.py` of 2012 do with an answer: a key that is missing or a null in the place of a
/// text ends a worker.
fn parse_job(build: &Value) -> Option<()> {
    for key in ["pkgs", "repos", "chroots"] {
        build[key].as_str()?.split(' ').next()?;
    }
    for key in ["memory_reqs", "timeout", "id", "user_id"] {
        build[key].as_i64()?;
    }
    build["copr"]["id"].as_i64()?;
    build["copr"]["name"].as_str()?;
    build["copr"]["owner"]["name"].as_str().map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_poller_of_2012_can_read_each_of_ten_thousand_builds() {
    let frontend = Frontend::start().await;
    frontend.submit(json!({})).await;
    let more = "with b as (
            insert into builds (project_id, submitter_id, chroots, repositories, memory_mib, timeout_seconds)
            select project_id, submitter_id, chroots, repositories, memory_mib, timeout_seconds
            from builds, generate_series(2, 10000) where id = 1 returning id
        ), s as (
            insert into sources (build_id, position, name, url) select id, 0, 'a.src.rpm', 'http://h/a.src.rpm' from b
        )
        insert into tasks (build_id, chroot, arch, memory_class, memory_mib, owner_id, priority)
        select b.id, t.chroot, t.arch, t.memory_class, t.memory_mib, t.owner_id, t.priority
        from b, tasks t where t.build_id = 1";
    assert_eq!(frontend.database().execute(more).await, 9_999);
    let begun = Instant::now();
    let list = frontend.get("/waiting_builds/?limit=1000").await.json();
    assert!(begun.elapsed().as_secs_f64() < 2.0, "{:?}", begun.elapsed());
    let builds = list["builds"].as_array().unwrap();
    assert_eq!(builds.len(), 1000);
    assert!(builds.iter().all(|build| parse_job(build).is_some()));
    let list = frontend.get("/backend/waiting_builds").await.json();
    assert_eq!(ids(&list), (1..=10).collect::<Vec<i64>>());
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_database_is_an_empty_list_within_two_seconds() {
    let frontend = Frontend::start().await;
    frontend.submit(json!({})).await;
    let poller = Poller::add(&frontend, "old", "execute", json!({})).await;
    let url = frontend.database().url();
    let inspector = millrace_store::Inspector::at(&url).unwrap();
    let holding = tokio::spawn(async move {
        let held = "do $$ begin lock table builds, legacy_pollers in access exclusive mode; perform pg_sleep(5); end $$";
        inspector.execute(held).await.unwrap();
    });
    let locked = "select count(*)::text from pg_locks l join pg_class c on c.oid = l.relation
        where c.relname = 'legacy_pollers' and l.mode = 'AccessExclusiveLock' and l.granted";
    frontend
        .until("locked", async |f| {
            f.database().fetch_text(locked).await.unwrap() == "1"
        })
        .await;
    for path in [
        "/waiting_builds/".to_owned(),
        format!("{}/waiting_builds/", poller.path),
    ] {
        let begun = Instant::now();
        let list = frontend.get(&path).await;
        assert!(begun.elapsed().as_secs_f64() < 2.0, "{:?}", begun.elapsed());
        assert_eq!((list.status, list.json()), (503, json!({"builds": []})));
        assert!(list.text().contains("\"builds\": []"));
        assert_eq!(list.content_type, "application/json");
        assert!(list.header("retry-after").is_some());
    }
    holding.await.unwrap();
    frontend
        .until("back", async |f| {
            f.get("/waiting_builds/").await.status == 200
        })
        .await;
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_not_on_the_list_sees_nothing() {
    let frontend = Frontend::start_with(NOWHERE, &["--legacy-allow=192.0.2.0/24"]).await;
    frontend.submit(json!({})).await;
    let list = frontend.get("/waiting_builds/").await;
    assert_eq!((list.status, list.json()), (403, json!({"builds": []})));
    frontend.stop().await;
    let frontend =
        Frontend::start_with(NOWHERE, &["--legacy-allow=192.0.2.0/24,127.0.0.0/8"]).await;
    frontend.submit(json!({})).await;
    assert_eq!(ids(&frontend.get("/waiting_builds/").await.json()), [1]);
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_trusted_proxy_the_client_counts_and_nobody_else_speaks_for_others() {
    let forwarded = async |frontend: &Frontend| {
        let request = frontend.request(Method::GET, "/waiting_builds/", "");
        send(request.header("x-forwarded-for", "198.51.100.1, 192.0.2.7"))
            .await
            .status
    };
    let allow = "--legacy-allow=192.0.2.0/24";
    let frontend = Frontend::start_with(NOWHERE, &[allow]).await;
    assert_eq!(forwarded(&frontend).await, 403, "no proxy is trusted");
    frontend.stop().await;
    let trust = "--trusted-proxies=127.0.0.0/8";
    let frontend = Frontend::start_with(NOWHERE, &[allow, trust]).await;
    assert_eq!(forwarded(&frontend).await, 200);
    assert_eq!(frontend.get("/waiting_builds/").await.status, 403);
    frontend.stop().await;
}
