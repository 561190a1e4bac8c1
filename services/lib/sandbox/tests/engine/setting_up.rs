//! Before the first build: engine, image, network, self-test.

use std::collections::HashMap;

use bollard::models::NetworkCreateRequest;
use bollard::query_parameters::{ListImagesOptions, TagImageOptions};
use chrono::{TimeDelta, Utc};
use millrace_sandbox::{
    Engine, NetworkSpec, NoopEngine, Profile, Runtime, SandboxError, self_test,
};
use sha2::{Digest, Sha256};

use crate::harness::{Harness, client, image, plan, profile, supervisor};

#[tokio::test]
async fn images_of_self_tests_of_other_releases_go() {
    let harness = Harness::open().await;
    self_test(&harness.engine, profile(), &supervisor())
        .await
        .unwrap();
    let names = async || {
        let all = client()
            .list_images(None::<ListImagesOptions>)
            .await
            .unwrap();
        let names = all.into_iter().flat_map(|image| image.repo_tags);
        let mut names: Vec<String> = names
            .filter(|name| name.contains("millrace-selftest-"))
            .collect();
        names.sort();
        names
    };
    let other = format!("millrace-selftest-{}", harness.builder);
    let tag = TagImageOptions {
        repo: Some(other.clone()),
        tag: Some("latest".to_owned()),
    };
    // Named by its content, as other tests of this run need it.
    let digest = Sha256::digest(std::fs::read(supervisor()).unwrap());
    let keep = format!("millrace-selftest-{}:latest", hex::encode(&digest[..6]));
    client().tag_image(&keep, Some(tag)).await.unwrap();
    let (past, future) = (
        Utc::now() - TimeDelta::days(1),
        Utc::now() + TimeDelta::days(1),
    );
    let remove = async |before| {
        harness
            .engine
            .remove_old_self_tests(&keep, before)
            .await
            .unwrap()
    };
    assert_eq!(remove(past).await, 0, "it may be in use");
    assert!(remove(future).await > 0);
    let left = names().await;
    assert!(left.iter().any(|name| name.ends_with(&keep)), "{left:?}");
    assert!(!left.iter().any(|name| name.contains(&other)), "{left:?}");
}

#[tokio::test]
async fn the_self_test_passes_in_short_time() {
    let harness = Harness::open().await;
    let first = self_test(&harness.engine, profile(), &supervisor())
        .await
        .unwrap();
    assert_eq!(first.memory_limit_bytes, 64 << 20);
    let again = self_test(&harness.engine, profile(), &supervisor())
        .await
        .unwrap();
    assert!(again.millis < 3000, "{again:?}");
}

#[tokio::test]
async fn a_profile_that_the_engine_refuses_is_named_in_one_sentence() {
    let harness = Harness::open().await;
    match self_test(&harness.engine, Profile::Privileged, &supervisor()).await {
        Ok(_) => println!("this engine accepts privileged containers: nothing is refused"),
        Err(error) => {
            assert!(
                matches!(error, SandboxError::ProfileRefused { .. }),
                "{error}"
            );
            assert!(error.to_string().contains("'privileged'"));
            assert!(!error.to_string().contains('\n'));
        }
    }
}

#[tokio::test]
async fn an_engine_says_who_it_is_and_says_it_again() {
    let harness = Harness::open().await;
    let info = harness.engine.info().await.unwrap();
    assert!(info.memory_bytes > 0 && info.cpus > 0 && !info.id.is_empty());
    let other = Harness::open().await;
    assert_eq!(other.engine.info().await.unwrap(), info);
    let digest = harness.engine.image_digest(&image()).await.unwrap();
    assert!(digest.contains(|c: char| c.is_ascii_hexdigit()));
}

#[tokio::test]
async fn a_missing_image_and_a_missing_engine_are_told_apart() {
    let harness = Harness::open().await;
    let runtime = Runtime::Engine(harness.engine.clone());
    let mut spec = harness.spec();
    spec.image = "millrace-no-such-image:1".into();
    let error = runtime
        .start(&spec, &Harness::files(plan("true", 60)))
        .await;
    let error = error.unwrap_err();
    assert!(
        matches!(error, SandboxError::ImageMissing { .. }),
        "{error}"
    );
    let error = Engine::connect("unix:///no/such/socket").await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    let error = Engine::connect("tcp://127.0.0.1:1").await.unwrap_err();
    assert!(matches!(error, SandboxError::BadUrl { .. }), "{error}");
}

#[tokio::test]
async fn a_start_that_fails_half_way_leaves_no_container() {
    let harness = Harness::open().await;
    let runtime = Runtime::Engine(harness.engine.clone());
    let folder = tempfile::tempdir().unwrap();
    let mut files = Harness::files(plan("true", 60));
    files.source = Some(folder.path().join("missing"));
    let error = runtime.start(&harness.spec(), &files).await.unwrap_err();
    assert!(matches!(error, SandboxError::File { .. }), "{error}");
    harness.assert_empty().await;
}

/// A network that is removed again, however the test ends.
struct Network(String);

impl Drop for Network {
    fn drop(&mut self) {
        let (client, name) = (client(), self.0.clone());
        let removal = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(client.remove_network(&name)).unwrap();
        });
        removal.join().unwrap();
    }
}

fn network_name(what: &str) -> String {
    format!("millrace-test-{what}-{}", std::process::id())
}

#[tokio::test]
async fn the_network_is_made_once_and_keeps_sandboxes_apart() {
    let harness = Harness::open().await;
    let network = NetworkSpec::new(network_name("own"));
    harness.engine.ensure_network(&network).await.unwrap();
    let _removed = Network(network.name.clone());
    harness.engine.ensure_network(&network).await.unwrap();
    let runtime = Runtime::Engine(harness.engine.clone());
    let mut spec = harness.spec();
    spec.network = Some(network.name.clone());
    let files = Harness::files(plan("cat /sys/class/net/*/operstate | wc -l", 60));
    let handle = runtime.start(&spec, &files).await.unwrap();
    let finished = harness.finish(handle).await;
    assert_eq!(finished.log, "2\n");
}

#[tokio::test]
async fn builders_that_start_together_make_one_network() {
    let harness = Harness::open().await;
    let network = NetworkSpec::new(network_name("race"));
    let _removed = Network(network.name.clone());
    let made = (0..8).map(|_| harness.engine.ensure_network(&network));
    for made in futures_util::future::join_all(made).await {
        made.unwrap();
    }
    let all = client().list_networks(None).await.unwrap();
    let ours = all
        .iter()
        .filter(|one| one.name.as_ref() == Some(&network.name));
    assert_eq!(ours.count(), 1);
}

#[tokio::test]
async fn an_open_network_of_somebody_else_is_refused() {
    let harness = Harness::open().await;
    if harness
        .engine
        .info()
        .await
        .unwrap()
        .name
        .starts_with("Podman")
    {
        println!("Podman has no such rule to look for");
        return;
    }
    let network = NetworkSpec::new(network_name("open"));
    let request = NetworkCreateRequest {
        name: network.name.clone(),
        options: Some(HashMap::new()),
        ..NetworkCreateRequest::default()
    };
    client().create_network(request).await.unwrap();
    let _removed = Network(network.name.clone());
    let error = harness.engine.ensure_network(&network).await.unwrap_err();
    assert!(
        matches!(error, SandboxError::NetworkFailed { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn the_stand_in_succeeds_at_once_and_says_what_it_is() {
    let harness = Harness::open().await;
    let runtime = Runtime::Noop(NoopEngine::new("test"));
    let files = Harness::files(plan("exit 1", 60));
    let mut handle = runtime.start(&harness.spec(), &files).await.unwrap();
    let log = handle.take_log().unwrap().recv().await.unwrap();
    assert!(String::from_utf8_lossy(&log).contains("no-op stand-in"));
    assert!(handle.wait().await.unwrap().report.unwrap().is_clean());
    let folder = tempfile::tempdir().unwrap();
    let caps = millrace_sandbox::CollectCaps::default();
    let collected = handle.collect("", folder.path(), &caps).await.unwrap();
    assert_eq!(collected.files[0].name.as_str(), "noop.json");
    handle.remove().await.unwrap();
}
