//! Clients that hang up early, send slowly, send too much or open thousands of connections do not delay others.

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Poller;
use crate::support::{Frontend, NOWHERE};

const HEAD: &str = "GET /waiting_builds/ HTTP/1.1\r\nHost: x\r\n";
/// Longest time for an answer to another client, on two cores that serve all clients at once.
const SOON: Duration = Duration::from_secs(1);

async fn connect(frontend: &Frontend) -> TcpStream {
    TcpStream::connect(frontend.address()).await.unwrap()
}

/// Asserts that other pollers and the API are answered in time.
async fn assert_served(frontend: &Frontend, while_what: &str) {
    for path in ["/waiting_builds/", "/api/v1/builds", "/healthz"] {
        let begun = Instant::now();
        // A connection of its own, as a poller of 2012 makes one each time.
        let answer = frontend.browse(path).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{while_what}: {answer}");
        assert!(
            begun.elapsed() < SOON,
            "{while_what}: {path} took {:?}",
            begun.elapsed()
        );
    }
}

/// Whether the server has ended this connection.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
    read.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_or_dawdles_holds_up_nobody() {
    let frontend = Frontend::start_with(NOWHERE, &["--header-seconds=2"]).await;
    frontend.submit(json!({})).await;
    for _ in 0..200 {
        let mut stream = connect(&frontend).await;
        stream
            .write_all(format!("{HEAD}\r\n").as_bytes())
            .await
            .unwrap();
        drop(stream);
    }
    assert_served(&frontend, "hanging up").await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        slow.push(connect(&frontend).await);
    }
    let begun = Instant::now();
    // A byte at a time, for longer than a head may take.
    for byte in HEAD.bytes().cycle().take(8) {
        for stream in &mut slow {
            let _ = stream.write_all(&[byte]).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_served(&frontend, "a byte at a time").await;
    }
    for stream in &mut slow {
        assert!(is_closed(stream).await, "a head comes in time");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_are_not_read() {
    let frontend = Frontend::start().await;
    let poller = Poller::add(&frontend, "old", "execute", json!({})).await;
    let credentials = "dXNlcjp3cm9uZw==";
    for path in [
        "/waiting_builds/".to_owned(),
        format!("{}/update_builds/", poller.path),
    ] {
        let mut stream = connect(&frontend).await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {credentials}\r\nContent-Length: 104857600\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let block = vec![b'x'; 1 << 20];
        let mut sent = 0;
        while sent < 100 && stream.write_all(&block).await.is_ok() {
            sent += 1;
            if sent % 10 == 0 {
                assert_served(&frontend, "pouring").await;
            }
        }
        assert_served(&frontend, "after pouring").await;
    }
    frontend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_connections_leave_room_for_others() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(8192).min(8192);
    let raised = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let frontend = Frontend::start_with(NOWHERE, &["--max-connections=500"]).await;
    frontend.submit(json!({})).await;
    let mut held = Vec::new();
    for count in 0..2000 {
        let mut stream = connect(&frontend).await;
        if count % 2 == 0 {
            let _ = stream.write_all(HEAD.as_bytes()).await;
        }
        held.push(stream);
        if count % 200 == 199 {
            assert_served(&frontend, "thousands of connections").await;
        }
    }
    assert!(is_closed(&mut held[0]).await, "the oldest has gone");
    drop(held);
    assert_served(&frontend, "afterwards").await;
    frontend.stop().await;
}
