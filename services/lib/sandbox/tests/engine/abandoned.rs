//! Sandboxes whose builder is gone: they end by themselves and wait for a sweep.

use std::io::Read;
use std::time::{Duration, Instant};

use bollard::query_parameters::DownloadFromContainerOptions;
use chrono::{TimeDelta, Utc};
use futures_util::TryStreamExt;
use millrace_sandbox::{Runtime, SweepFilter};
use millrace_supervisor::{REPORT_PATH, Report};

use crate::harness::{Harness, client, plan};

/// Waits until a container has stopped without asking the crate under test.
async fn until_stopped(container: &str, patience: Duration) {
    let client = client();
    let deadline = Instant::now() + patience;
    loop {
        match client.inspect_container(container, None).await {
            Ok(found) if !found.state.as_ref().unwrap().running.unwrap() => return,
            // Podman's word for a container that is just ending is none of Docker's.
            Ok(_) | Err(bollard::errors::Error::JsonDataError { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < deadline, "it still runs");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn filed_report(container: &str) -> Report {
    let options = DownloadFromContainerOptions {
        path: REPORT_PATH.into(),
    };
    let client = client();
    let pieces = client.download_from_container(container, Some(options));
    let bytes = pieces.try_collect::<Vec<_>>().await.unwrap().concat();
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    let mut text = String::new();
    entry.read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn a_sandbox_whose_builder_is_gone_ends_by_itself() {
    let harness = Harness::open().await;
    let mut handle = harness
        .start(plan(
            "trap '' INT; echo begun; (sleep 1000 &) ; sleep 1000",
            600,
        ))
        .await;
    let mut log = handle.take_log().unwrap();
    assert!(log.recv().await.is_some());
    let container = handle.container_id().to_owned();
    drop(handle);
    until_stopped(&container, Duration::from_secs(10)).await;
    let report = filed_report(&container).await;
    assert!(report.abandoned && !report.timed_out() && !report.cancelled);
    let swept = harness
        .engine
        .sweep(SweepFilter::OwnedBy(harness.builder))
        .await;
    assert_eq!(swept.unwrap().len(), 1);
    harness.assert_empty().await;
}

#[tokio::test]
async fn a_builder_that_says_nothing_counts_as_gone() {
    let harness = Harness::open().await;
    let mut plan = plan("sleep 1000", 600);
    // The handle pings at once and then every 5 s.
    plan.ping_timeout_seconds = 2;
    let finished = harness.run(plan).await;
    assert!(finished.report().abandoned);
    assert!(
        (1.0..5.0).contains(&finished.seconds),
        "{} s",
        finished.seconds
    );
}

#[tokio::test]
async fn pings_keep_a_sandbox_alive() {
    let harness = Harness::open().await;
    let mut plan = plan("sleep 9", 600);
    plan.ping_timeout_seconds = 7;
    assert!(harness.run(plan).await.report().is_clean());
}

#[tokio::test]
async fn an_expired_sandbox_is_removed_by_any_builder() {
    let (harness, other) = (Harness::open().await, Harness::open().await);
    let runtime = Runtime::Engine(harness.engine.clone());
    let mut spec = harness.spec();
    // Long ago, so that a sweep up to a moment before now takes no sandbox of another test.
    spec.expires = Utc::now() - TimeDelta::days(2);
    let files = Harness::files(plan("sleep 1000", 600));
    let mut handle = runtime.start(&spec, &files).await.unwrap();
    let before = Utc::now() - TimeDelta::days(1);
    let swept = other
        .engine
        .sweep(SweepFilter::Expired(before))
        .await
        .unwrap();
    assert!(
        swept
            .iter()
            .any(|one| one.container_id == handle.container_id())
    );
    assert!(
        swept
            .iter()
            .any(|one| one.attempt == spec.attempt.to_string())
    );
    handle.remove().await.unwrap();
    harness.assert_empty().await;
}
