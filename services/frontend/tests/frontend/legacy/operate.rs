//! Administration of pollers: add, show, lens, rotate, remove.

use millrace_chassis::Method;
use serde_json::{Value, json};

use super::Poller;
use crate::support::{ADMIN, Frontend, send};

async fn admin(frontend: &Frontend, method: Method, path: &str) -> (u16, Value) {
    let reply = send(frontend.request(method, path, ADMIN)).await;
    (reply.status, reply.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pollers_secrets_are_told_once_and_stored_as_digests() {
    let frontend = Frontend::start().await;
    let rules = json!({"projects": ["main/main"], "chroots": ["debian-13-x86_64"], "share": 30, "fence": "reject"});
    let poller = Poller::add(&frontend, "old", "execute", rules).await;
    let token = poller.path.split('/').nth(2).unwrap().to_owned();
    assert!(poller.path.ends_with("/backend") && token.len() == 64);
    let (status, shown) = admin(&frontend, Method::GET, "/api/v1/pollers/old").await;
    assert_eq!(status, 200);
    assert_eq!(
        (
            &shown["mode"],
            &shown["share"],
            &shown["fence"],
            &shown["alive"]
        ),
        (
            &json!("execute"),
            &json!(30),
            &json!("reject"),
            &json!(true)
        )
    );
    let (_, list) = admin(&frontend, Method::GET, "/api/v1/pollers").await;
    assert_eq!(list["items"], json!([shown]));
    let stored = "select string_agg(p::text, ' ') from legacy_pollers p";
    let stored = frontend.database().fetch_text(stored).await.unwrap();
    for text in [shown.to_string(), list.to_string(), stored] {
        assert!(
            !text.contains(&token) && !text.contains(&poller.secret),
            "{text}"
        );
    }

    let (status, access) = admin(&frontend, Method::POST, "/api/v1/pollers/old/rotate").await;
    assert_eq!(status, 200);
    let new = Poller::of(&access);
    assert_eq!(poller.fetch(&frontend).await.status, 404);
    assert_eq!(new.fetch(&frontend).await.status, 200);
    let mixed = Poller {
        path: new.path.clone(),
        secret: poller.secret.clone(),
    };
    assert_eq!(mixed.report(&frontend, json!([])).await.status, 401);
    assert_eq!(new.report(&frontend, json!([])).await.status, 200);

    let (status, _) = admin(&frontend, Method::DELETE, "/api/v1/pollers/old").await;
    assert_eq!(status, 200);
    assert_eq!(new.fetch(&frontend).await.status, 404);
    assert_eq!(new.report(&frontend, json!([])).await.status, 401);
    let (status, _) = admin(&frontend, Method::GET, "/api/v1/pollers/old").await;
    assert_eq!(status, 404);
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_poller_is_refused_by_its_field() {
    let frontend = Frontend::start().await;
    for (body, field) in [
        (json!({"name": "a b", "mode": "observe"}), "name"),
        (json!({"name": "a", "mode": "build"}), "mode"),
        (
            json!({"name": "a", "mode": "execute", "share": 101}),
            "share",
        ),
        (
            json!({"name": "a", "mode": "execute", "projects": ["main"]}),
            "projects",
        ),
        (
            json!({"name": "a", "mode": "execute", "chroots": ["x"]}),
            "chroots[0]",
        ),
        (
            json!({"name": "a", "mode": "execute", "fence": "maybe"}),
            "fence",
        ),
    ] {
        let reply = frontend.post("/api/v1/pollers", &body).await;
        reply.assert_problem(422, field, &body.to_string());
    }
    Poller::add(&frontend, "a", "observe", json!({})).await;
    let twice = frontend
        .post("/api/v1/pollers", &json!({"name": "a", "mode": "observe"}))
        .await;
    twice.assert_problem(409, "", "the name is taken");
    let (status, _) = admin(&frontend, Method::DELETE, "/api/v1/pollers/b").await;
    assert_eq!(status, 404);
    for (method, path) in [
        (Method::GET, "/api/v1/pollers"),
        (Method::POST, "/api/v1/pollers"),
        (Method::GET, "/api/v1/pollers/a"),
        (Method::DELETE, "/api/v1/pollers/a"),
        (Method::POST, "/api/v1/pollers/a/rotate"),
        (Method::GET, "/api/v1/pollers/a/lens"),
    ] {
        let reply = send(frontend.request(method, path, "wrong")).await;
        assert_eq!(reply.status, 401, "{path}");
    }
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lens_shows_what_a_poller_sees_says_and_has() {
    let frontend = Frontend::start().await;
    let poller = Poller::add(&frontend, "old", "execute", json!({})).await;
    for _ in 0..2 {
        frontend.submit(json!({})).await;
    }
    let lens = async || {
        admin(&frontend, Method::GET, "/api/v1/pollers/old/lens")
            .await
            .1
    };
    let before = lens().await;
    assert_eq!(
        (&before["fetched"], &before["owned"]),
        (&json!([]), &json!([]))
    );
    let list = poller.fetch(&frontend).await;
    assert_eq!(before["answer"], list.text(), "to the byte");
    let start = json!([{"id": 1, "started_on": 7.25}]);
    poller.report(&frontend, start.clone()).await;
    let after = lens().await;
    assert_eq!(after["fetched"], json!([1, 2]));
    assert_eq!(after["reported"], json!({ "builds": start }));
    let states: Vec<_> = after["owned"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["state"].clone())
        .collect();
    assert_eq!(states, ["running", "queued"]);
    assert!(after["poller"]["reported_at"].is_string());
    let seen: Value = serde_json::from_str(after["answer"].as_str().unwrap()).unwrap();
    assert_eq!(super::ids(&seen), [2]);
    frontend.stop().await;
}
