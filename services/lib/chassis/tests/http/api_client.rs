//! The client of our own interfaces against a real server on this machine.

use crate::server::{Server, Then, plain, raw, redirect};
use millrace_chassis::{ApiClient, ApiError, Method, Problem, path_segment};
use secrecy::SecretString;
use serde_json::{Value, json};

fn client(server: &Server, token: Option<&str>) -> ApiClient {
    ApiClient::new(&server.url("/base/"), token.map(SecretString::from)).unwrap()
}

#[tokio::test]
async fn answers_are_decoded_and_the_token_is_sent_but_never_shown() {
    let server = Server::start(vec![(
        "/base/api/v1/builds",
        plain("201 Created", "application/json", r#"{"id":7}"#),
    )])
    .await;
    let client = client(&server, Some("s3cret"));
    let answer: Value = client
        .post("/api/v1/builds", &json!({"sources": []}))
        .await
        .unwrap();
    assert_eq!(answer["id"], 7);
    let other = client.with_token(SecretString::from("0ther"));
    let _: Value = other.get("api/v1/builds").await.unwrap();
    let heads = server.requests();
    assert!(heads[0].starts_with("post /base/api/v1/builds "));
    assert!(heads[0].contains("authorization: bearer s3cret"));
    assert!(heads[1].contains("authorization: bearer 0ther"));
    let shown = format!("{client:?} {:?}", client.request(Method::GET, "/x"));
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[tokio::test]
async fn a_problem_reaches_the_caller_with_its_field() {
    let problem = Problem::new(0, "invalid_field", "a field is not valid")
        .field("timeout")
        .detail("timeout is -1 s");
    let body = serde_json::to_string(&problem).unwrap();
    let server = Server::start(vec![(
        "/base/x",
        plain(
            "422 Unprocessable Content",
            "application/problem+json; charset=utf-8",
            &body,
        ),
    )])
    .await;
    let error = client(&server, None).get::<Value>("/x").await.unwrap_err();
    assert_eq!(error.status(), Some(422));
    assert_eq!(error.problem().unwrap().field.as_deref(), Some("timeout"));
    assert_eq!(error.to_string(), "timeout: timeout is -1 s");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn what_is_none_of_our_answers_is_named() {
    let server = Server::start(vec![
        ("/base/html", plain("200 OK", "text/html", "<html>")),
        ("/base/moved", redirect("https://elsewhere/")),
        ("/base/bad", plain("502 Bad Gateway", "text/html", "<html>")),
        (
            "/base/cut",
            raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", Then::Close),
        ),
        ("/base/flood", raw("HTTP/1.1 200 OK\r\n\r\n", Then::Flood)),
    ])
    .await;
    let client = client(&server, None);
    for path in ["/html", "/moved", "/flood"] {
        let error = client.get::<Value>(path).await.unwrap_err();
        assert!(
            matches!(error, ApiError::BadAnswer { .. }),
            "{path}: {error}"
        );
        assert!(!error.is_transient());
    }
    let error = client.get::<Value>("/bad").await.unwrap_err();
    assert!(
        error.is_transient() && error.status() == Some(502),
        "{error}"
    );
    let error = client.get::<Value>("/missing").await.unwrap_err();
    assert_eq!(error.status(), Some(404));
    let error = client.get::<Value>("/cut").await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
}

#[tokio::test]
async fn no_server_is_a_sentence() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let client = ApiClient::new(&format!("http://{address}"), None).unwrap();
    let error = client.get::<Value>("/x").await.unwrap_err();
    assert!(error.is_unreachable() && error.is_transient());
    let text = error.to_string().to_lowercase();
    assert!(
        text.starts_with(&format!("cannot reach {address}: connection refused")),
        "{text}"
    );
}

#[test]
fn unusable_addresses_and_tokens_are_refused_at_once() {
    for bad in ["", "localhost:8080", "ftp://x", "http://", "http://x/?a=b"] {
        let error = ApiClient::new(bad, None).unwrap_err();
        assert!(matches!(error, ApiError::BadBase { .. }), "{bad}: {error}");
    }
    let error = ApiClient::new("http://x", Some(SecretString::from("a\nb"))).unwrap_err();
    assert!(!error.to_string().contains("a\nb"));
}

#[test]
fn a_path_segment_stays_one() {
    assert_eq!(
        path_segment("bzip2-1.0~rc1.src.rpm"),
        "bzip2-1.0~rc1.src.rpm"
    );
    assert_eq!(path_segment("a/b?c#d e%é"), "a%2Fb%3Fc%23d%20e%25%C3%A9");
    assert_eq!(path_segment(".."), "%252E%252E");
}
