//! The examples of the two documents of 2012, imported, are listed again as the documents show them.

use serde_json::{Value, json};

use super::{Poller, ids, state_of};
use crate::support::Frontend;

/// Parses an example; its comments and trailing commas are no JSON and are removed.
fn example(text: &str) -> Value {
    let lines = text.lines().map(|line| match line.split_once(" # ") {
        Some((code, _)) => code,
        None => line,
    });
    let mut clean: String = lines.collect::<Vec<_>>().join("\n");
    while let Some(at) = clean.find(",\n  ]") {
        clean.remove(at);
    }
    serde_json::from_str(&clean).unwrap_or_else(|error| panic!("{error}: {clean}"))
}

fn oct() -> Value {
    example(include_str!("seeds/000-example.txt"))
}

fn draft() -> Value {
    example(include_str!("seeds/000-new-draft.txt"))
}

fn earlier() -> Value {
    example(include_str!("seeds/001-example.txt"))
}

async fn import(frontend: &Frontend, list: &Value) -> Value {
    let reply = frontend.post("/api/v1/imports", list).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

fn by_id(list: &Value) -> Vec<Value> {
    let mut builds = list["builds"].as_array().unwrap().clone();
    builds.sort_by_key(|build| build["id"].as_i64());
    builds
}

#[tokio::test(flavor = "multi_thread")]
async fn the_later_document_comes_back_field_by_field() {
    let frontend = Frontend::start().await;
    // What was here first gives way: its account and project are shown under other numbers.
    frontend.submit(json!({})).await;
    assert_eq!(import(&frontend, &oct()).await["imported"], json!([5, 4]));
    assert_eq!(import(&frontend, &draft()).await["imported"], json!([14]));
    let shown = frontend.get("/waiting_builds/?shape=oct").await.json();
    let seen: Vec<Value> = by_id(&shown)
        .into_iter()
        .filter(|b| b["id"] == 4 || b["id"] == 5)
        .collect();
    assert_eq!(seen, by_id(&oct()));
    // The set is what matters; the oldest first is what the code did.
    assert_eq!(ids(&shown), [4, 5, 14, 1]);
    let shown = frontend.get("/waiting_builds/?shape=nov").await.json();
    let seen = by_id(&shown).pop().unwrap();
    assert_eq!(seen, draft()["builds"][0]);
    let all = frontend.get("/waiting_builds/").await.json();
    let owner = |id: i64| {
        let build = by_id(&all).into_iter().find(|b| b["id"] == id).unwrap();
        build["copr"]["owner"].clone()
    };
    assert_eq!(
        owner(5),
        json!({"id": 2, "name": "user2"}),
        "no name is given there"
    );
    assert_eq!(
        owner(4),
        json!({"id": 1, "name": "bkabrda"}),
        "the other example names it"
    );
    assert_eq!(owner(1)["name"], "main");
    let numbers: Vec<&Value> = all["builds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| &b["copr_id"])
        .collect();
    assert_eq!(numbers[..3], [&json!(3), &json!(5), &json!(1)]);
    assert!(numbers[3].as_i64().unwrap() > 5, "{numbers:?}");
    let next = frontend.submit(json!({})).await;
    assert_eq!(
        next["id"], 15,
        "numbers go on after those of the other site"
    );
    assert_eq!(next["owner"], "main");
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_earlier_document_the_cancelled_build_is_absent() {
    let frontend = Frontend::start().await;
    import(&frontend, &earlier()).await;
    let shown = frontend.get("/waiting_builds/?shape=oct").await.json();
    assert_eq!(ids(&shown), [5]);
    let mut expected = earlier()["builds"][0].clone();
    // Never null: it is a waiting build.
    expected["canceled"] = json!(false);
    assert_eq!(shown["builds"][0], expected);
    assert_eq!(state_of(&frontend, 4).await, "cancelled");
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn imported_builds_keep_their_ends_and_are_built_by_nobody_until_they_are_released() {
    let frontend = Frontend::start().await;
    let mut list = draft();
    list["builds"][0]["chroots"] = json!("debian-13-x86_64");
    let mut add = |id: i64, keys: Value| {
        let mut build = list["builds"][0].clone();
        build["id"] = json!(id);
        for (key, value) in keys.as_object().unwrap() {
            build[key] = value.clone();
        }
        list["builds"].as_array_mut().unwrap().push(build);
    };
    add(
        20,
        json!({"started_on": 1_351_770_920.5, "ended_on": 1_351_771_000, "status": 1, "results": "http://r/"}),
    );
    add(21, json!({"state": "failed", "ended_on": 1_351_771_000}));
    add(22, json!({"state": "cancelled"}));
    add(23, json!({"chroots": "fedora-17-i386"}));
    let first = import(&frontend, &list).await;
    assert_eq!(first["imported"], json!([14, 20, 21, 22, 23]));
    let again = import(&frontend, &list).await;
    assert_eq!(
        (&again["known"], &again["imported"]),
        (&json!([14, 20, 21, 22, 23]), &json!([]))
    );
    let states = [
        (14, "waiting"),
        (20, "succeeded"),
        (21, "failed"),
        (22, "cancelled"),
        (23, "waiting"),
    ];
    for (build, state) in states {
        assert_eq!(state_of(&frontend, build).await, state, "{build}");
    }
    let ended = frontend.get("/api/v1/builds/20").await.json();
    assert_eq!(ended["tasks"][0]["ended_at"], "2012-11-01T11:56:40Z");
    let waits = frontend.get("/api/v1/builds/14").await.json();
    assert_eq!(waits["tasks"][0]["wait"]["reason"], "imported");
    assert_eq!(
        ids(&frontend.get("/waiting_builds/").await.json()),
        [14, 23]
    );

    let mut asked = list.clone();
    asked["release"] = json!(true);
    let released = import(&frontend, &asked).await;
    assert_eq!(
        released["released"],
        json!([14]),
        "fedora-17-i386 is offered by nobody"
    );
    let waits = frontend.get("/api/v1/builds/14").await.json();
    assert_eq!(waits["tasks"][0]["wait"]["reason"], "no_builder");

    let poller = Poller::add(&frontend, "old", "execute", json!({})).await;
    asked["release"] = json!(false);
    asked["poller"] = json!("old");
    assert_eq!(import(&frontend, &asked).await["released"], json!([23]));
    assert_eq!(poller.listed(&frontend).await, [23]);
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_imported_is_named_and_nothing_is_stored() {
    let frontend = Frontend::start().await;
    frontend.submit(json!({})).await;
    let before = frontend.stored().await;
    for (key, value, field) in [
        ("id", json!(0), "builds[1].id"),
        ("pkgs", json!("http://a/b' c"), "builds[1].pkgs"),
        ("pkgs", json!(""), "builds[1].pkgs"),
        (
            "chroots",
            json!("fedora-16-i386 fedora-17-i386"),
            "builds[1].chroots",
        ),
        ("state", json!("running"), "builds[1].state"),
        ("started_on", json!(5), "builds[1].state"),
        ("timeout", json!(1), "builds[1].timeout"),
        ("submitted_on", json!(-1), "builds[1].submitted_on"),
        (
            "copr",
            json!({"id": 1, "name": "a/b", "owner_id": 1}),
            "builds[1].copr.name",
        ),
        (
            "copr",
            json!({"id": 1, "name": "a"}),
            "builds[1].copr.owner_id",
        ),
        ("user_id", json!(null), "builds[1].user_id"),
    ] {
        let mut list = draft();
        let mut bad = list["builds"][0].clone();
        bad[key] = value;
        list["builds"].as_array_mut().unwrap().push(bad);
        let reply = frontend.post("/api/v1/imports", &list).await;
        reply.assert_problem(422, field, key);
    }
    let mut ours = draft();
    ours["builds"][0]["id"] = json!(1);
    let reply = frontend.post("/api/v1/imports", &ours).await;
    reply.assert_problem(409, "", "a build of this site");
    let mut unknown = draft();
    unknown["poller"] = json!("nobody");
    let reply = frontend.post("/api/v1/imports", &unknown).await;
    reply.assert_problem(422, "poller", "there is none");
    let reply = frontend.post_as("wrong", "/api/v1/imports", &draft()).await;
    assert_eq!(reply.status, 401);
    assert_eq!(frontend.stored().await, before);
    frontend.stop().await;
}
