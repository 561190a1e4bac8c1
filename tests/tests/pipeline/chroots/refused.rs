//! Chroots that are not offered: builds in them would run as root, or their names are none.

use super::*;

#[tokio::test]
async fn a_chroot_in_which_builds_would_run_as_root_is_refused_with_the_reason() {
    let retry = ("MILLRACE_BAKE_RETRY_SECONDS".to_owned(), "2".to_owned());
    let pipeline = Pipeline::start(PipelineOptions {
        builder_env: vec![retry],
        ..PipelineOptions::default()
    })
    .await;
    let chroot = Chroot::new();
    chroot.base_after("rm -rf /usr/libexec/mock");
    chroot.add(&pipeline).await;
    let build = chroot.submit(&pipeline, "hello").await;
    let message = waits(&pipeline, build, "bake_failed").await;
    assert!(message.contains("is a link to consolehelper"), "{message}");

    // What consolehelper does where it lets root through.
    chroot.base_after(
        "cd /usr/libexec/mock && mv mock mock.own && chmod 755 mock.own && printf \
         '#!/bin/sh\nUSERHELPER_UID=0 exec /usr/libexec/mock/mock.own \"$@\"\n' >mock && chmod 755 mock",
    );
    until_within(LONG, "the other reason is told", async || {
        let images = chroot.images(&pipeline).await;
        let error = images.first()?["error"].as_str()?.to_owned();
        error.contains("rpmbuild runs as root").then_some(())
    })
    .await;

    chroot.base("true");
    let ended = pipeline.ended(build, LONG).await;
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    pipeline.stop().await;
}

#[tokio::test]
async fn what_is_no_chroot_is_refused_by_its_field_and_only_an_administrator_changes_chroots() {
    let pipeline = Pipeline::start(PipelineOptions {
        builders: 0,
        ..PipelineOptions::default()
    })
    .await;
    let chroot = pipeline.settings.chroot.clone();
    for (args, told) in [
        (vec!["add", "../etc-1-x"], "name"),
        (
            vec!["add", "a-1-x", "--base", "--privileged"],
            "--privileged",
        ),
        (vec!["add", "a-1-x", "--base=-v"], "base"),
        (
            vec!["add", "a-1-x", "--mock-root", "a-{{7}}-b"],
            "mock_root",
        ),
        (vec!["add", "a-1-x", "--image", "a b"], "image"),
        (vec!["add", &chroot], "already"),
        (vec!["refresh", "nowhere-1-x86_64"], "no chroot"),
        (vec!["refresh", &chroot], "made elsewhere"),
        (vec!["disable", "nowhere-1-x86_64"], "no chroot"),
        (vec!["enable", "{{7}}"], "no chroot"),
    ] {
        let run = pipeline
            .cli
            .run(&[vec!["chroot"], args.clone()].concat())
            .await;
        assert_eq!(run.code, 2, "{args:?}: {run:?}");
        assert!(run.stderr.contains(told), "{args:?}: {run:?}");
    }
    for args in [
        ["add", "a-1-x"],
        ["refresh", &chroot],
        ["disable", &chroot],
        ["enable", &chroot],
    ] {
        let run = pipeline
            .cli
            .run(&[&["--token", "wrong", "chroot"], &args[..]].concat())
            .await;
        assert_eq!(run.code, 2, "{args:?}: {run:?}");
        assert!(run.stderr.contains("token"), "{args:?}: {run:?}");
    }
    let list = pipeline.cli.json(&["chroot", "list"]).await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list:#}");
    pipeline.stop().await;
}
