//! Bad input is refused with the field and the accepted form, and changes nothing.

#![expect(clippy::unwrap_used, reason = "a test fails on the spot")]

use millrace_tests::{Pipeline, PipelineOptions, Sandbox, http_client, http_get};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

struct Case {
    what: &'static str,
    field: Option<&'static str>,
    body: Vec<u8>,
}

fn case(
    what: &'static str,
    field: &'static str,
    change: impl FnOnce(&mut Value),
    chroot: &str,
) -> Case {
    let mut body = json!({ "sources": ["https://example.org/a-1-1.src.rpm"], "chroots": [chroot] });
    change(&mut body);
    Case {
        what,
        field: Some(field),
        body: body.to_string().into_bytes(),
    }
}

fn sources(url: &str) -> Value {
    json!([url])
}

const BAD_URLS: &[&str] = &[
    "https://example.org/a b.src.rpm",
    "https://example.org/a\n.src.rpm",
    "https://example.org/\"a\".src.rpm",
    "https://example.org/{a}.src.rpm",
    "gopher://example.org/a.src.rpm",
    "file:///etc/passwd",
    "http://10.0.0.1/a.src.rpm",
    "http://127.0.0.1:8080/a.src.rpm",
    "http://localhost/a.src.rpm",
    "http://169.254.169.254/latest",
    "http://[::1]/a.src.rpm",
    "http://[::ffff:10.0.0.1]/a.src.rpm",
    "http://2130706433/a.src.rpm",
    "http://0x7f.1/a.src.rpm",
];

fn url_cases(chroot: &str) -> Vec<Case> {
    BAD_URLS
        .iter()
        .map(|url| {
            let mut refused = case("", "sources", |b| b["sources"] = sources(url), chroot);
            refused.what = url;
            refused
        })
        .collect()
}

fn cases(chroot: &str) -> Vec<Case> {
    vec![
        Case {
            what: "malformed JSON",
            field: None,
            body: b"{\"sources\": [".to_vec(),
        },
        Case {
            what: "no object",
            field: None,
            body: b"[]".to_vec(),
        },
        case(
            "zero sources",
            "sources",
            |b| b["sources"] = json!([]),
            chroot,
        ),
        case(
            "10,000 sources",
            "sources",
            |b| b["sources"] = json!(vec!["https://example.org/a.src.rpm"; 10_000]),
            chroot,
        ),
        case(
            "sources of a wrong type",
            "sources",
            |b| b["sources"] = json!("x"),
            chroot,
        ),
        case(
            "a number as source",
            "sources",
            |b| b["sources"] = json!([1]),
            chroot,
        ),
        case(
            "no chroots",
            "chroots",
            |b| b["chroots"] = json!([]),
            chroot,
        ),
        case(
            "an unknown chroot",
            "chroots",
            |b| b["chroots"] = json!(["nowhere-1-x86_64"]),
            chroot,
        ),
        case(
            "a chroot that is a path",
            "chroots",
            |b| b["chroots"] = json!(["../../etc/passwd"]),
            chroot,
        ),
        case(
            "a negative memory limit",
            "memory_reqs",
            |b| b["memory_reqs"] = json!(-1),
            chroot,
        ),
        case(
            "too little memory",
            "memory_reqs",
            |b| b["memory_reqs"] = json!(1),
            chroot,
        ),
        case(
            "a memory limit of a wrong type",
            "memory_reqs",
            |b| b["memory_reqs"] = json!("lots"),
            chroot,
        ),
        case(
            "a negative time limit",
            "timeout",
            |b| b["timeout"] = json!(-5),
            chroot,
        ),
        case(
            "an endless time limit",
            "timeout",
            |b| b["timeout"] = json!(1_000_000_000_000_i64),
            chroot,
        ),
        case(
            "a repository with braces",
            "repositories",
            |b| b["repositories"] = json!(["http://a/{{7}}"]),
            chroot,
        ),
        case(
            "an unknown project",
            "project",
            |b| b["project"] = json!("no/such"),
            chroot,
        ),
    ]
}

#[tokio::test]
async fn bad_input_is_refused_and_changes_nothing() {
    let pipeline = Pipeline::start(PipelineOptions {
        sandbox: Sandbox::Noop,
        builders: 0,
        ..PipelineOptions::default()
    })
    .await;
    let client = http_client();
    let url = format!("{}/api/v1/builds", pipeline.cli.url);
    let chroot = &pipeline.settings.chroot;
    for case in cases(chroot).into_iter().chain(url_cases(chroot)) {
        let answer = client
            .post(&url)
            .bearer_auth(&pipeline.cli.token)
            .header("content-type", "application/json")
            .body(case.body)
            .send()
            .await
            .unwrap();
        assert_problem(answer, case.what, case.field).await;
    }
    let list = pipeline.cli.json(&["list"]).await;
    assert_eq!(list["items"], json!([]), "nothing is stored");
    pipeline.stop().await;
}

async fn assert_problem(answer: reqwest::Response, what: &str, field: Option<&str>) {
    let status = answer.status();
    let media = answer.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    let text = answer.text().await.unwrap();
    assert!(status.is_client_error(), "{what}: {status} {text}");
    assert!(
        media.starts_with("application/problem+json"),
        "{what}: {media}"
    );
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(problem["status"], status.as_u16(), "{what}: {text}");
    if let Some(field) = field {
        assert!(
            problem["field"]
                .as_str()
                .is_some_and(|f| f.starts_with(field)),
            "{what}: {text}"
        );
        assert!(
            problem["accepted"].is_string() || problem["detail"].is_string(),
            "{what}: {text}"
        );
    }
}

#[tokio::test]
async fn tokens_ids_sizes_and_methods_are_checked() {
    let env = vec![("MILLRACE_MAX_UPLOAD_BYTES".to_owned(), "1000".to_owned())];
    let pipeline = Pipeline::start(PipelineOptions {
        sandbox: Sandbox::Noop,
        builders: 0,
        frontend_env: env,
        ..PipelineOptions::default()
    })
    .await;
    let client = http_client();
    let base = &pipeline.cli.url;
    let good = json!({ "sources": ["https://example.org/a.src.rpm"], "chroots": [pipeline.settings.chroot] });
    let build = |token: Option<&str>| {
        let request = client.post(format!("{base}/api/v1/builds")).json(&good);
        token.map_or_else(
            || request.try_clone().unwrap(),
            |t| request.try_clone().unwrap().bearer_auth(t),
        )
    };
    for (what, token) in [
        ("no token", None),
        ("a wrong token", Some("wrong")),
        ("a long token", Some(&*"x".repeat(5000))),
    ] {
        let answer = build(token).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{what}");
    }
    for (method, path) in [
        (Method::GET, "/api/v1/builds/999"),
        (Method::GET, "/api/v1/builds/abc"),
        (Method::GET, "/api/v1/builds/99999999999999999999999"),
        (Method::GET, "/api/v1/builds?limit=x"),
        (Method::GET, "/api/v1/builds?state=odd"),
        (Method::POST, "/api/v1/builds/999/cancel"),
        (Method::POST, "/api/v1/builds/999/resubmit"),
        (Method::GET, "/api/v1/tasks/999"),
        (Method::GET, "/api/v1/attempts/not-a-uuid"),
        (
            Method::GET,
            "/api/v1/attempts/00000000-0000-0000-0000-000000000000/log",
        ),
        (Method::GET, "/api/v1/nothing"),
        (Method::DELETE, "/api/v1/builds"),
        (Method::GET, "/results/main/main/..%2f..%2fetc/1/passwd"),
    ] {
        let answer = client
            .request(method, format!("{base}{path}"))
            .bearer_auth(&pipeline.cli.token)
            .send()
            .await
            .unwrap();
        assert_problem(answer, path, None).await;
    }
    let big = client
        .post(format!("{base}/api/v1/sources?name=a-1-1.src.rpm"))
        .bearer_auth(&pipeline.cli.token)
        .body(vec![0_u8; 2000])
        .send()
        .await
        .unwrap();
    assert_eq!(big.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let long = client
        .post(format!("{base}/api/v1/builds"))
        .bearer_auth(&pipeline.cli.token)
        .header("content-type", "application/json")
        .body(vec![b' '; 2 << 20])
        .send()
        .await
        .unwrap();
    assert_eq!(long.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(
        pipeline.cli.json(&["list"]).await["items"],
        json!([]),
        "nothing is stored"
    );
    pipeline.stop().await;
}

#[tokio::test]
async fn a_submission_repeated_with_its_key_is_the_same_build() {
    let pipeline = Pipeline::start(PipelineOptions {
        sandbox: Sandbox::Noop,
        builders: 0,
        ..PipelineOptions::default()
    })
    .await;
    let client = http_client();
    let post = async |body: &Value| {
        client
            .post(format!("{}/api/v1/builds", pipeline.cli.url))
            .bearer_auth(&pipeline.cli.token)
            .header("idempotency-key", "the-same")
            .json(body)
            .send()
            .await
            .unwrap()
    };
    let body = json!({ "sources": ["https://example.org/a.src.rpm"], "chroots": [pipeline.settings.chroot] });
    let (first, twin) = tokio::join!(post(&body), post(&body));
    let first: Value = first.json().await.unwrap();
    let twin: Value = twin.json().await.unwrap();
    assert_eq!(first["id"], twin["id"]);
    let other = json!({ "sources": ["https://example.org/b.src.rpm"], "chroots": [pipeline.settings.chroot] });
    assert_eq!(
        post(&other).await.status(),
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(
        pipeline.cli.json(&["list"]).await["items"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );

    let poller: Value = http_get(&format!("{}/waiting_builds/", pipeline.cli.url))
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(poller["builds"][0]["id"], first["id"], "{poller:#}");
    assert_eq!(poller["builds"][0]["pkgs"], "https://example.org/a.src.rpm");
    assert_eq!(poller["builds"][0]["timeout"], 1800);
    assert_eq!(poller["builds"][0]["memory_reqs"], 2048);
    pipeline.stop().await;
}
