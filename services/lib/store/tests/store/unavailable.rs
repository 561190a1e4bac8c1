use std::time::{Duration, Instant};

use millrace_store::{Store, StoreConfig};
use secrecy::{ExposeSecret, SecretString};

use crate::harness::{Harness, SILENT_SECONDS};

#[tokio::test]
async fn a_database_that_is_away_is_unavailable_within_the_acquire_timeout() {
    let url = SecretString::from("postgres://nobody:s3cret@127.0.0.1:1/none");
    let store = Store::connect(&StoreConfig::new(url)).unwrap();
    let begun = Instant::now();
    let error = store.counts().await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(4));
    let error = store.migrate().await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    let text = format!("{error} {error:?} {store:?}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[tokio::test]
async fn a_url_that_cannot_work_is_told_at_once_and_not_repeated() {
    let config = StoreConfig::new(SecretString::from("mysql://root:s3cret@host/x"));
    let error = Store::connect(&config).unwrap_err();
    assert!(!error.is_unavailable());
    assert!(!format!("{error} {error:?} {config:?}").contains("s3cret"));
}

/// A server that accepts connections and never says a word.
#[tokio::test]
async fn a_server_that_never_answers_is_unavailable_within_the_acquire_timeout() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = SecretString::from(format!("postgres://postgres@127.0.0.1:{port}/none"));
    let store = Store::connect(&StoreConfig::new(url)).unwrap();
    let begun = Instant::now();
    let error = store.ping().await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_statement_that_waits_too_long_is_unavailable_and_harms_no_later_one() {
    let harness = Harness::new().await;
    let build = harness.submit().await;
    let config = StoreConfig {
        statement_timeout: Duration::from_millis(300),
        ..StoreConfig::new(harness.database.url())
    };
    let impatient = Store::connect(&config).unwrap();
    let blocker = harness.store().clone();
    let locked = harness
        .database
        .execute("do $$ begin perform from tasks for update; perform pg_sleep(2); end $$");
    let (_, error) = tokio::join!(locked, async {
        let deadline = Instant::now() + Duration::from_secs(5);
        // The lock is there as soon as the statement that takes it can be seen at work.
        let working = "select pid::text from pg_stat_activity
            where query like 'do $$%' and state = 'active' and wait_event = 'PgSleep'
                and datname = current_database()";
        while harness.database.fetch_text(working).await.is_none() {
            assert!(Instant::now() < deadline, "the lock was never taken");
            tokio::task::yield_now().await;
        }
        impatient
            .cancel_build(build, SILENT_SECONDS)
            .await
            .unwrap_err()
    });
    assert!(error.is_unavailable(), "{error}");
    assert!(impatient.build(build).await.unwrap().is_some());
    assert!(blocker.ping().await.is_ok());
}

#[tokio::test]
async fn calls_that_are_dropped_midway_leave_no_connection_in_a_transaction() {
    let harness = Harness::new().await;
    let config = StoreConfig {
        max_connections: 2,
        ..StoreConfig::new(harness.database.url())
    };
    let store = Store::connect(&config).unwrap();
    let build = harness.submit().await;
    for round in 0..300_u64 {
        let patience = Duration::from_micros(20 * (round % 60));
        // Whether it ends in time does not matter here.
        let _ = tokio::time::timeout(patience, store.cancel_build(build, SILENT_SECONDS)).await;
        let parked = store.park("queue", "reason", "body").await;
        parked.unwrap();
    }
    assert_eq!(harness.store().counts().await.unwrap().parked, 300);
}

#[tokio::test]
async fn connections_that_the_server_ended_are_replaced_without_an_error() {
    let harness = Harness::new().await;
    harness.submit().await;
    let other = Store::connect(&StoreConfig::new(harness.database.url())).unwrap();
    other.ping().await.unwrap();
    harness
        .database
        .execute(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid()",
        )
        .await;
    // A connection that lay idle for a second is tried before it is used; so long a restart takes anyway.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    other.ping().await.unwrap();
    assert_eq!(other.counts().await.unwrap().waiting, 1);
    assert!(
        harness
            .database
            .url()
            .expose_secret()
            .contains("millrace_test_")
    );
}

#[tokio::test]
async fn a_connection_is_used_again_by_later_calls() {
    let harness = Harness::new().await;
    let mut backends = std::collections::HashSet::new();
    for _ in 0..50 {
        harness.submit().await;
        let backend = "select pg_backend_pid()::text";
        backends.insert(harness.database.fetch_text(backend).await);
    }
    assert!(
        backends.len() <= 8,
        "{} connections for calls that came one after another",
        backends.len()
    );
}
