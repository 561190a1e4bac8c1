//! The main job: a source package goes in, packages, log and outcome come out.

#![expect(
    clippy::unwrap_used,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "a test fails on the spot, and rpm writes its names in lower case"
)]

use std::collections::HashSet;
use std::time::Duration;

use millrace_tests::{
    BuilderOptions, Fixture, Pipeline, PipelineOptions, Sandbox, SourceServer, until_within,
};
use serde_json::Value;

const LONG: Duration = Duration::from_mins(5);

fn task(build: &Value) -> &Value {
    &build["tasks"][0]
}

fn attempt(build: &Value) -> &Value {
    task(build)["attempts"]
        .as_array()
        .and_then(|a| a.last())
        .unwrap_or(&Value::Null)
}

#[tokio::test]
async fn a_source_package_becomes_packages_log_and_outcome() {
    let pipeline = Pipeline::start(PipelineOptions::default()).await;
    let hello = Fixture::named("hello");
    let chroot = pipeline.settings.chroot.clone();

    let run = pipeline
        .cli
        .run(&[
            "submit",
            hello.path(),
            "--chroot",
            &chroot,
            "--memory",
            "512",
            "--follow",
        ])
        .await;
    assert_eq!(run.code, 0, "{run:?}");
    assert!(
        run.stdout.contains("%build"),
        "the followed log has the build's own lines: {run:?}"
    );

    let build = pipeline.cli.show(1).await;
    assert_eq!(build["state"], "succeeded", "{build:#}");
    assert_eq!(task(&build)["outcome"]["kind"], "succeeded");
    let attempt = attempt(&build);
    assert_eq!(attempt["state"], "finished");
    assert_eq!(attempt["number"], 1);
    assert!(
        task(&build)["outcome"]["peak_memory_bytes"].as_u64() > Some(0),
        "{build:#}"
    );
    assert!(
        task(&build)["outcome"]["cpu_seconds"].as_f64() > Some(0.0),
        "{build:#}"
    );
    let stages: Vec<&str> = attempt["stages"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|s| s["name"].as_str())
        .collect();
    for stage in [
        "fetch",
        "dependencies",
        "prep",
        "build",
        "install",
        "collect",
        "upload",
    ] {
        assert!(stages.contains(&stage), "{stage} is missing in {stages:?}");
    }

    let folder = tempfile::tempdir().unwrap();
    let run = pipeline
        .cli
        .run(&["download", "1", "--dest", folder.path().to_str().unwrap()])
        .await;
    assert_eq!(run.code, 0, "{run:?}");
    let files: Vec<String> = std::fs::read_dir(folder.path().join(&chroot))
        .unwrap()
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(files.iter().any(|f| f.ends_with(".src.rpm")), "{files:?}");
    assert!(
        files
            .iter()
            .any(|f| f.ends_with(".rpm") && !f.ends_with(".src.rpm")),
        "{files:?}"
    );
    assert!(files.iter().any(|f| f == "build.log"), "{files:?}");
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

#[tokio::test]
async fn several_packages_of_a_build_are_built_in_order() {
    let pipeline = Pipeline::start(PipelineOptions::default()).await;
    let (hello, chatty) = (Fixture::named("hello"), Fixture::named("compile-error"));
    let chroot = pipeline.settings.chroot.clone();
    let run = pipeline
        .cli
        .run(&[
            "submit",
            hello.path(),
            chatty.path(),
            "--chroot",
            &chroot,
            "--memory",
            "512",
            "--wait",
        ])
        .await;
    assert_eq!(run.code, 1, "the second package fails: {run:?}");
    let build = pipeline.cli.show(1).await;
    let packages = attempt(&build)["packages"].as_array().unwrap().clone();
    assert_eq!(packages.len(), 2, "{build:#}");
    assert_eq!(packages[0]["outcome"]["kind"], "succeeded");
    assert_eq!(packages[1]["outcome"]["kind"], "build_failed");
    assert!(
        !packages[0]["files"].as_array().unwrap().is_empty(),
        "what was built is kept"
    );
    pipeline.stop().await;
}

#[tokio::test]
async fn a_source_is_fetched_from_an_allowed_url() {
    let env = vec![("MILLRACE_FETCH_ALLOW".to_owned(), "127.0.0.0/8".to_owned())];
    let pipeline = Pipeline::start(PipelineOptions {
        frontend_env: env.clone(),
        builder_env: env,
        ..PipelineOptions::default()
    })
    .await;
    let hello = Fixture::named("hello");
    let server = SourceServer::start(std::fs::read(&hello.srpm).unwrap()).await;
    let chroot = pipeline.settings.chroot.clone();
    for (path, kind, code) in [
        ("file/hello-1-1.src.rpm", "succeeded", 0),
        ("truncated/hello-1-1.src.rpm", "source_failed", 1),
        ("absent.src.rpm", "source_failed", 1),
        // A documentation address: allowed to be asked for, reached by nobody, refused by the guard behind the redirect.
        ("to/169.254.169.254", "source_failed", 1),
    ] {
        let build = pipeline
            .cli
            .submit(&server.url(path), &["--chroot", &chroot, "--memory", "512"])
            .await;
        let ended = pipeline.ended(build, LONG).await;
        assert_eq!(task(&ended)["outcome"]["kind"], kind, "{path}: {ended:#}");
        let shown = pipeline
            .cli
            .run(&["resubmit", &build.to_string(), "--wait"])
            .await;
        assert_eq!(shown.code, code, "{path}: {shown:?}");
    }
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

#[tokio::test]
async fn a_running_build_is_cancelled_within_ten_seconds() {
    let pipeline = Pipeline::start(PipelineOptions::default()).await;
    let sleeper = Fixture::named("sleeper");
    let chroot = pipeline.settings.chroot.clone();
    let build = pipeline
        .cli
        .submit(
            sleeper.path(),
            &["--chroot", &chroot, "--memory", "512", "--timeout", "600"],
        )
        .await;
    pipeline.logged(build, "Executing(%build)").await;
    let run = pipeline.cli.run(&["cancel", &build.to_string()]).await;
    assert_eq!(run.code, 0, "{run:?}");
    let ended = pipeline.ended(build, Duration::from_secs(15)).await;
    assert_eq!(ended["state"], "cancelled", "{ended:#}");
    let again = pipeline.cli.run(&["cancel", &build.to_string()]).await;
    assert_eq!(
        again.code, 2,
        "a cancelled build cannot be cancelled: {again:?}"
    );
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

#[tokio::test]
async fn a_burst_spreads_over_all_builders_which_keep_their_identity() {
    let mut pipeline = Pipeline::start(PipelineOptions {
        sandbox: Sandbox::Noop,
        builders: 3,
        ..PipelineOptions::default()
    })
    .await;
    let before: HashSet<String> = ids(&pipeline.known_builders().await);
    let hello = Fixture::named("hello");
    let chroot = pipeline.settings.chroot.clone();
    let mut builds = Vec::new();
    for _ in 0..30 {
        builds.push(
            pipeline
                .cli
                .submit(hello.path(), &["--chroot", &chroot])
                .await,
        );
    }
    let mut builders = HashSet::new();
    for build in builds {
        let ended = pipeline.ended(build, LONG).await;
        assert_eq!(ended["state"], "succeeded", "{ended:#}");
        assert_eq!(
            task(&ended)["attempts"].as_array().map(Vec::len),
            Some(1),
            "{ended:#}"
        );
        builders.insert(attempt(&ended)["builder_id"].as_str().unwrap().to_owned());
    }
    assert!(builders.len() >= 2, "the work was spread: {builders:?}");
    pipeline.builders.clear();
    for _ in 0..3 {
        pipeline.add_builder(&BuilderOptions::default());
    }
    until_within(LONG, "the builders are back", async || {
        let back = pipeline
            .builders
            .iter()
            .all(|b| b.log().contains("enrolled"));
        back.then_some(())
    })
    .await;
    assert_eq!(
        ids(&pipeline.known_builders().await),
        before,
        "no builder took a new identity"
    );
    pipeline.stop().await;
}

fn ids(builders: &[Value]) -> HashSet<String> {
    builders
        .iter()
        .map(|b| b["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn the_commands_exit_codes_tell_what_is_wrong() {
    let pipeline = Pipeline::start(PipelineOptions {
        sandbox: Sandbox::Noop,
        ..PipelineOptions::default()
    })
    .await;
    let hello = Fixture::named("hello");
    let chroot = pipeline.settings.chroot.clone();
    let cli = &pipeline.cli;
    assert_eq!(
        cli.run(&["submit", hello.path(), "--chroot", &chroot, "--wait"])
            .await
            .code,
        0
    );
    assert_eq!(
        cli.run(&["submit", "/nonexistent.src.rpm", "--chroot", &chroot])
            .await
            .code,
        2
    );
    assert_eq!(
        cli.run(&["submit", hello.path(), "--chroot", "nowhere-1-x86_64"])
            .await
            .code,
        2
    );
    assert_eq!(cli.run(&["show", "999999"]).await.code, 2);
    assert_eq!(cli.run(&["frobnicate"]).await.code, 2);
    assert_eq!(
        cli.run(&[
            "--token",
            "wrong",
            "submit",
            hello.path(),
            "--chroot",
            &chroot
        ])
        .await
        .code,
        2
    );
    assert_eq!(
        cli.run(&["--url", "http://127.0.0.1:1", "status"])
            .await
            .code,
        3
    );
    assert_eq!(cli.run(&["status"]).await.code, 0);
    assert_eq!(cli.run(&["chroot", "list"]).await.code, 0);
    let list = cli.json(&["list"]).await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list:#}");
    pipeline.stop().await;
}

#[tokio::test]
async fn idle_frontend_and_builder_stay_small() {
    let pipeline = Pipeline::start(PipelineOptions::default()).await;
    for process in pipeline.frontends.iter().chain(&pipeline.builders) {
        let kib = process.resident_kib();
        assert!(kib <= 40 * 1024, "an idle process holds {kib} KiB");
    }
    pipeline.stop().await;
}
