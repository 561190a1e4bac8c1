//! The guarded client against a real server on this machine.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use crate::server::{Answer, Server, Then, plain, raw, redirect};
use millrace_chassis::{FetchError, FetchLimits, Fetched, Fetcher, Guard};

const LOOPBACK: &str = "127.0.0.0/8,::1";

fn limits() -> FetchLimits {
    FetchLimits {
        max_bytes: 1_000_000,
        connect: Duration::from_secs(5),
        idle: Duration::from_secs(5),
        total: Duration::from_secs(20),
    }
}

fn fetcher(allow: &str, limits: FetchLimits) -> Fetcher {
    Fetcher::new(Guard::new(allow.parse().unwrap()), limits).unwrap()
}

async fn fetch(url: &str, allow: &str) -> Result<(Fetched, Vec<u8>), FetchError> {
    let mut bytes = Vec::new();
    let fetched = fetcher(allow, limits()).fetch(url, &mut bytes).await?;
    Ok((fetched, bytes))
}

async fn one(answer: Answer) -> Server {
    Server::start(vec![("/x", answer)]).await
}

fn file() -> Answer {
    plain("200 OK", "application/x-rpm", "hello")
}

#[tokio::test]
async fn a_file_arrives_with_its_size_and_digest() {
    let server = one(file()).await;
    let (fetched, bytes) = fetch(&server.url("/x"), LOOPBACK).await.unwrap();
    assert_eq!(bytes, b"hello");
    assert_eq!(fetched.size, 5);
    assert_eq!(
        fetched.sha256,
        "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    );
    let head = &server.requests()[0];
    assert!(head.contains("accept-encoding: identity"), "{head}");
    assert!(head.contains("user-agent: millrace/"), "{head}");
}

#[tokio::test]
async fn a_private_address_is_refused_before_any_connection() {
    let server = one(file()).await;
    let refused = fetch(&server.url("/x"), "").await.unwrap_err();
    assert!(
        matches!(&refused, FetchError::AddressRefused { host, address }
            if host == "127.0.0.1" && *address == IpAddr::V4(Ipv4Addr::LOCALHOST)),
        "{refused}"
    );
    assert!(!refused.is_transient());
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_name_that_resolves_to_a_private_address_is_refused_after_resolution() {
    let server = one(file()).await;
    // The machine's own name resolves by /etc/hosts to an address that is not public, and is not the word localhost.
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let own: Vec<IpAddr> = tokio::net::lookup_host((name.trim(), 0))
        .await
        .map(|found| found.map(|address| address.ip()).collect())
        .unwrap_or_default();
    if own.is_empty() || own.iter().any(|ip| Guard::default().allows(*ip)) {
        eprintln!("not exercised: this machine's name has no private address");
        return;
    }
    let url = format!("http://{}:{}/x", name.trim(), server.address.port());
    assert!(Guard::default().check_literal(&url).is_ok());
    let refused = fetch(&url, "").await.unwrap_err();
    assert!(
        matches!(&refused, FetchError::AddressRefused { address, .. } if own.contains(address)),
        "{refused}"
    );
}

#[tokio::test]
async fn of_a_names_addresses_only_the_allowed_ones_are_used() {
    let server = one(file()).await;
    let url = format!("http://localhost:{}/x", server.address.port());
    assert!(matches!(
        fetch(&url, "").await,
        Err(FetchError::AddressRefused { .. })
    ));
    // With ::1 not on the list, the connection goes to 127.0.0.1.
    assert!(fetch(&url, "127.0.0.1").await.is_ok());
    // The word passes the first check by ::1, the resolved 127.0.0.1 is refused all the same.
    assert!(fetch(&url, "::1").await.is_err());
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_redirect_is_followed_and_its_target_checked() {
    let inside = one(file()).await;
    let server = Server::start(vec![
        ("/relative", redirect("/x")),
        ("/x", file()),
        (
            "/inside",
            redirect(&inside.url("/x").replace("127.0.0.1", "127.0.0.2")),
        ),
        (
            "/metadata",
            redirect("http://169.254.169.254/latest/meta-data/"),
        ),
        ("/mapped", redirect("http://[::ffff:10.0.0.1]/")),
        ("/file", redirect("file:///etc/passwd")),
        ("/password", redirect("http://u:p@127.0.0.1/")),
        ("/nonsense", redirect("http://[")),
    ])
    .await;
    let allow = "127.0.0.1";
    let (fetched, _) = fetch(&server.url("/relative"), allow).await.unwrap();
    assert_eq!(fetched.url, server.url("/x"));
    for path in ["/inside", "/metadata", "/mapped"] {
        let refused = fetch(&server.url(path), allow).await.unwrap_err();
        assert!(
            matches!(refused, FetchError::AddressRefused { .. }),
            "{path}: {refused}"
        );
    }
    assert!(matches!(
        fetch(&server.url("/file"), allow).await,
        Err(FetchError::SchemeRefused(scheme)) if scheme == "file"
    ));
    for path in ["/password", "/nonsense"] {
        let refused = fetch(&server.url(path), allow).await;
        assert!(matches!(refused, Err(FetchError::BadUrl(_))), "{path}");
    }
    assert!(inside.requests().is_empty());
}

#[tokio::test]
async fn five_redirects_are_followed_and_a_loop_is_not() {
    let server = Server::start(vec![
        ("/1", redirect("/2")),
        ("/2", redirect("/3")),
        ("/3", redirect("/4")),
        ("/4", redirect("/5")),
        ("/5", redirect("/x")),
        ("/x", file()),
        ("/0", redirect("/1")),
        ("/loop", redirect("/loop")),
    ])
    .await;
    assert!(fetch(&server.url("/1"), LOOPBACK).await.is_ok());
    for path in ["/0", "/loop"] {
        let error = fetch(&server.url(path), LOOPBACK).await.unwrap_err();
        assert!(
            matches!(error, FetchError::TooManyRedirects { limit: 5 }),
            "{path}: {error}"
        );
    }
}

#[tokio::test]
async fn any_status_but_200_is_named() {
    let server = Server::start(vec![
        ("/busy", plain("503 Service Unavailable", "text/plain", "")),
        ("/part", plain("206 Partial Content", "text/plain", "x")),
        ("/nowhere", plain("302 Found", "text/plain", "")),
    ])
    .await;
    for (path, expected, transient) in [
        ("/missing", 404, false),
        ("/busy", 503, true),
        ("/part", 206, false),
        ("/nowhere", 302, false),
    ] {
        let error = fetch(&server.url(path), LOOPBACK).await.unwrap_err();
        assert!(
            matches!(&error, FetchError::Status { status, .. } if *status == expected),
            "{path}: {error}"
        );
        assert_eq!(error.is_transient(), transient, "{path}");
    }
}

#[tokio::test]
async fn too_much_is_refused_whether_it_is_announced_or_not() {
    let announced = "HTTP/1.1 200 OK\r\nContent-Length: 1000001\r\n\r\n";
    let server = Server::start(vec![
        ("/announced", raw(announced, Then::Stall)),
        ("/endless", raw("HTTP/1.1 200 OK\r\n\r\n", Then::Flood)),
    ])
    .await;
    for path in ["/announced", "/endless"] {
        let error = fetch(&server.url(path), LOOPBACK).await.unwrap_err();
        assert!(
            matches!(error, FetchError::TooLarge { cap: 1_000_000 }),
            "{path}: {error}"
        );
    }
}

#[tokio::test]
async fn a_slow_server_is_given_up() {
    let quick = FetchLimits {
        idle: Duration::from_millis(200),
        total: Duration::from_millis(600),
        ..limits()
    };
    let begun = "HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\nabc";
    let server = Server::start(vec![
        ("/silent", raw("", Then::Stall)),
        ("/stalled", raw(begun, Then::Stall)),
        ("/drip", raw(begun, Then::Drip)),
    ])
    .await;
    for (path, said) in [
        ("/silent", "no data for 0.2 s"),
        ("/stalled", "no data for 0.2 s"),
        ("/drip", "not done after 0.6 s"),
    ] {
        let start = Instant::now();
        let error = fetcher(LOOPBACK, quick)
            .fetch(&server.url(path), &mut Vec::new())
            .await
            .unwrap_err();
        assert!(
            matches!(error, FetchError::TimedOut { .. }),
            "{path}: {error}"
        );
        assert!(error.to_string().ends_with(said), "{path}: {error}");
        assert!(error.is_transient());
        assert!(start.elapsed() < Duration::from_secs(5), "{path}");
    }
}

#[tokio::test]
async fn a_transfer_that_ends_early_is_truncated() {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab";
    let server = Server::start(vec![
        ("/length", raw(length, Then::Close)),
        ("/chunked", raw(chunked, Then::Close)),
    ])
    .await;
    for (path, expected) in [("/length", Some(10)), ("/chunked", None)] {
        let error = fetch(&server.url(path), LOOPBACK).await.unwrap_err();
        assert!(
            matches!(&error, FetchError::Truncated { declared, .. } if *declared == expected),
            "{path}: {error}"
        );
        assert!(error.is_transient());
    }
}

#[tokio::test]
async fn what_is_no_http_or_not_there_is_unreachable() {
    let server = one(raw("SSH-2.0-OpenSSH_9.9\r\n", Then::Close)).await;
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}/x", free.local_addr().unwrap());
    drop(free);
    for url in [
        server.url("/x"),
        nobody,
        server.url("/x").replace("http:", "https:"),
        "http://no-such-host.invalid/x".to_owned(),
    ] {
        let error = fetch(&url, LOOPBACK).await.unwrap_err();
        assert!(
            matches!(error, FetchError::Unreachable { .. }),
            "{url}: {error}"
        );
        assert!(error.is_transient());
        eprintln!("{error}");
    }
}

#[tokio::test]
async fn a_failed_fetch_leaves_no_file() {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc";
    let server = Server::start(vec![("/bad", raw(length, Then::Close)), ("/x", file())]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("source.src.rpm");
    let fetcher = fetcher(LOOPBACK, limits());
    assert!(
        fetcher
            .fetch_to_file(&server.url("/bad"), &path)
            .await
            .is_err()
    );
    assert!(!path.exists());
    fetcher
        .fetch_to_file(&server.url("/x"), &path)
        .await
        .unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"hello");
    let nowhere = folder.path().join("no/such/folder");
    let error = fetcher
        .fetch_to_file(&server.url("/x"), &nowhere)
        .await
        .unwrap_err();
    assert!(matches!(error, FetchError::Write(_)), "{error}");
}

#[tokio::test]
async fn a_full_disk_is_told_apart_from_a_bad_server() {
    let server = one(plain("200 OK", "x/y", &"x".repeat(100_000))).await;
    let mut full = tokio::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .await
        .unwrap();
    let error = fetcher(LOOPBACK, limits())
        .fetch(&server.url("/x"), &mut full)
        .await
        .unwrap_err();
    assert!(error.is_disk_full(), "{error}");
}

#[tokio::test]
async fn a_proxy_in_the_environment_is_not_asked() {
    // A proxy would resolve names itself, and with that pass the check by.
    let proxy = ["http_proxy", "HTTP_PROXY", "ALL_PROXY"].map(|name| (name, "http://192.0.2.1:9"));
    for test in [
        "fetch::a_private_address_is_refused_before_any_connection",
        "fetch::a_file_arrives_with_its_size_and_digest",
    ] {
        let output = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .envs(proxy)
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}"
        );
    }
}
