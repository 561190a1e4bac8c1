//! Chroots as data: added by the command, baked by builders, refreshed in the background, disabled.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::Command;
use std::time::Duration;

use chrono::{DateTime, Utc};
use millrace_tests::{
    BuilderOptions, Fixture, Pipeline, PipelineOptions, Settings, until, until_within,
};
use serde_json::Value;

const LONG: Duration = Duration::from_mins(4);

fn docker(args: &[&str]) -> Option<String> {
    let engine = Settings::from_env().engine;
    let output = Command::new("docker")
        .args(["--host", &engine])
        .args(args)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

/// A chroot of one test with a base of its own; its images go with it.
struct Chroot {
    name: String,
    image: String,
    base: String,
}

impl Chroot {
    fn new() -> Self {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let arch = Settings::from_env().chroot;
        let arch = arch.rsplit('-').next().unwrap().to_owned();
        let name = format!("test{}-1-{arch}", &id[..12]);
        Self {
            image: format!("millrace/chroot-{name}"),
            base: format!("millrace-test/base-{}", &id[..12]),
            name,
        }
    }

    /// Makes the base anew: the suite's, whose mock runs these lines of shell before it initialises a chroot.
    fn base(&self, before_init: &str) {
        let script = format!(
            "mv /usr/bin/mock /usr/bin/mock.own && cat >/usr/bin/mock <<'END' && chmod 755 /usr/bin/mock\n\
             #!/bin/sh\ncase \" $* \" in *' --init '*) {before_init};; esac\nexec /usr/bin/mock.own \"$@\"\nEND\n"
        );
        let made = docker(&[
            "create",
            "--entrypoint",
            "",
            &Settings::from_env().base,
            "sh",
            "-c",
            &script,
        ]);
        let id = made.unwrap();
        docker(&["start", "--attach", &id]).unwrap();
        docker(&["commit", &id, &self.base]).unwrap();
        docker(&["rm", &id]).unwrap();
    }

    async fn add(&self, pipeline: &Pipeline) {
        let root = &pipeline.settings.mock_root;
        let args = [
            "chroot",
            "add",
            &self.name,
            "--base",
            &self.base,
            "--mock-root",
            root,
        ];
        let added = pipeline.cli.json(&args).await;
        assert_eq!(added["image"], *self.image, "{added:#}");
    }

    async fn submit(&self, pipeline: &Pipeline, fixture: &str) -> i64 {
        let args = ["--chroot", &self.name, "--memory", "512"];
        let fixture = Fixture::named(fixture);
        pipeline.cli.submit(fixture.path(), &args).await
    }

    /// What builders say of its image.
    async fn images(&self, pipeline: &Pipeline) -> Vec<Value> {
        let list = pipeline.cli.json(&["chroot", "list"]).await;
        let items = list["items"].as_array().unwrap();
        let own = items.iter().find(|item| item["name"] == *self.name);
        own.unwrap()["images"].as_array().unwrap().clone()
    }

    /// Waits until all of so many builders have the same image, and none bakes; gives its digest.
    async fn ready(&self, pipeline: &Pipeline, builders: usize) -> String {
        until_within(LONG, "the image is ready", async || {
            let images = self.images(pipeline).await;
            let digest = images.first()?["digest"].as_str()?.to_owned();
            let same = |image: &Value| image["state"] == "ready" && image["digest"] == *digest;
            (images.len() == builders && images.iter().all(same)).then_some(digest)
        })
        .await
    }

    /// Its container that bakes, running or not.
    fn bakes(&self) -> Vec<String> {
        let filter = format!("name=millrace-bake-{}", self.image.replace('/', "."));
        let found = docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter]);
        found.unwrap().lines().map(str::to_owned).collect()
    }

    async fn until_bakes(&self) -> String {
        until("a bake is under way", async || self.bakes().pop()).await
    }
}

impl Drop for Chroot {
    fn drop(&mut self) {
        for id in self.bakes() {
            docker(&["rm", "--force", &id]);
        }
        let label = format!("label=millrace.chroot={}", self.name);
        let images = docker(&["images", "--quiet", "--filter", &label]).unwrap_or_default();
        for image in images.lines().chain([self.base.as_str()]) {
            docker(&["rmi", "--force", image]);
        }
    }
}

fn has_image(digest: &str) -> bool {
    docker(&["image", "inspect", digest]).is_some()
}

fn task(build: &Value) -> &Value {
    &build["tasks"][0]
}

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

/// Waits until the build says that it waits for this reason; gives the sentence.
async fn waits(pipeline: &Pipeline, build: i64, reason: &str) -> String {
    until(&format!("build {build} waits: {reason}"), async || {
        let build = pipeline.cli.show(build).await;
        let wait = &task(&build)["wait"];
        (wait["reason"] == reason).then(|| wait["message"].as_str().unwrap().to_owned())
    })
    .await
}

#[tokio::test]
async fn a_chroot_that_is_added_is_baked_and_its_first_build_waits_for_that_off_the_clock() {
    let pipeline = Pipeline::start(PipelineOptions::default()).await;
    let chroot = Chroot::new();
    chroot.base("sleep 6");
    chroot.add(&pipeline).await;
    let build = chroot.submit(&pipeline, "hello").await;
    let message = waits(&pipeline, build, "chroot_baking").await;
    assert!(message.contains(&chroot.name), "{message}");

    let ended = pipeline.ended(build, LONG).await;
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    assert_eq!(
        task(&ended)["attempts_counted"],
        0,
        "waiting costs no attempt: {ended:#}"
    );
    let attempts = task(&ended)["attempts"].as_array().unwrap();
    let attempt = attempts.last().unwrap();
    let digest = chroot.ready(&pipeline, 1).await;
    assert_eq!(attempt["image_digest"], *digest, "{ended:#}");
    let baked_at = time(&attempt["image_baked_at"]);
    let started_at = time(&task(&ended)["started_at"]);
    assert!(
        (started_at - baked_at).num_seconds() >= 6,
        "the clock starts behind the bake: {ended:#}"
    );
    let shown = pipeline.cli.run(&["show", &build.to_string()]).await.stdout;
    assert!(
        shown.contains("image sha256:") && shown.contains("baked"),
        "{shown}"
    );
    let listed = pipeline.cli.run(&["chroot", "list"]).await.stdout;
    assert!(
        listed.contains(&chroot.base) && listed.contains("ready"),
        "{listed}"
    );
    assert_eq!(chroot.bakes(), [] as [String; 0]);
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

#[tokio::test]
async fn two_builders_of_one_engine_bake_once() {
    let pipeline = Pipeline::start(PipelineOptions {
        builders: 2,
        ..PipelineOptions::default()
    })
    .await;
    let chroot = Chroot::new();
    chroot.base("sleep 4");
    chroot.add(&pipeline).await;
    let both = async || {
        let images = chroot.images(&pipeline).await;
        let baking = images.iter().filter(|image| image["state"] == "baking");
        (baking.count() == 2).then_some(())
    };
    until("both builders know of the bake", both).await;
    chroot.ready(&pipeline, 2).await;
    let count = |log: String| {
        let lines = log
            .lines()
            .filter(|line| line.contains("the image of a chroot was baked"));
        lines.filter(|line| line.contains(&chroot.name)).count()
    };
    let bakes: usize = pipeline
        .builders
        .iter()
        .map(|builder| count(builder.log()))
        .sum();
    assert_eq!(bakes, 1);
    pipeline.stop().await;
}

#[tokio::test]
async fn a_refresh_makes_a_new_image_and_the_old_one_goes_when_no_sandbox_uses_it() {
    let pipeline = Pipeline::start(PipelineOptions::default()).await;
    let chroot = Chroot::new();
    chroot.base("true");
    chroot.add(&pipeline).await;
    let first = chroot.ready(&pipeline, 1).await;
    let build = chroot.submit(&pipeline, "sleeper").await;
    pipeline.logged(build, "Executing(%build)").await;

    let mut digests = vec![first.clone()];
    for _ in 0..2 {
        pipeline
            .cli
            .json(&["chroot", "refresh", &chroot.name])
            .await;
        let fresh = until_within(LONG, "another image is there", async || {
            let digest = chroot.ready(&pipeline, 1).await;
            (!digests.contains(&digest)).then_some(digest)
        })
        .await;
        digests.push(fresh);
    }
    until_within(LONG, "the second image is gone", async || {
        (!has_image(&digests[1])).then_some(())
    })
    .await;
    assert!(has_image(&first), "a sandbox uses it");
    pipeline.cli.run(&["cancel", &build.to_string()]).await;
    let ended = pipeline.ended(build, LONG).await;
    assert_eq!(ended["state"], "cancelled", "{ended:#}");
    until_within(LONG, "the first image is gone", async || {
        (!has_image(&first)).then_some(())
    })
    .await;
    assert!(has_image(&digests[2]));
    pipeline.stop().await;
}

#[tokio::test]
async fn a_bake_that_fails_says_why_and_recovers_by_itself() {
    let retry = ("MILLRACE_BAKE_RETRY_SECONDS".to_owned(), "2".to_owned());
    let pipeline = Pipeline::start(PipelineOptions {
        builder_env: vec![retry],
        ..PipelineOptions::default()
    })
    .await;
    let chroot = Chroot::new();
    chroot.base("echo 'ERROR: the mirror is on fire' >&2; exit 30");
    chroot.add(&pipeline).await;
    let build = chroot.submit(&pipeline, "hello").await;
    let message = waits(&pipeline, build, "bake_failed").await;
    assert!(message.contains("exit code 30"), "{message}");
    assert!(message.contains("the mirror is on fire"), "{message}");
    let status = pipeline.get("/api/v1/status").await;
    assert_eq!(status["bakes_failing"], 1, "{status:#}");
    let listed = pipeline.cli.run(&["chroot", "list"]).await.stdout;
    assert!(listed.contains("the mirror is on fire"), "{listed}");

    chroot.base("true");
    let ended = pipeline.ended(build, LONG).await;
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    chroot.ready(&pipeline, 1).await;
    pipeline.stop().await;
}

#[tokio::test]
async fn a_builder_that_is_killed_in_a_bake_leaves_nothing_behind() {
    let mut pipeline = Pipeline::start(PipelineOptions::default()).await;
    let chroot = Chroot::new();
    chroot.base("sleep 600");
    chroot.add(&pipeline).await;
    let container = chroot.until_bakes().await;
    pipeline.builders[0].kill();
    assert_eq!(chroot.bakes(), [container.as_str()]);
    chroot.base("true");
    pipeline.builders.clear();
    pipeline.add_builder(&BuilderOptions::default());
    until_within(LONG, "what was left is gone", async || {
        (!chroot.bakes().contains(&container)).then_some(())
    })
    .await;
    chroot.ready(&pipeline, 1).await;
    until("no bake is left", async || {
        chroot.bakes().is_empty().then_some(())
    })
    .await;
    pipeline.stop().await;
}

#[tokio::test]
async fn a_disabled_chroot_takes_no_new_builds_and_finishes_what_it_accepted() {
    let pipeline = Pipeline::start(PipelineOptions::default()).await;
    let chroot = Chroot::new();
    chroot.base("sleep 3");
    chroot.add(&pipeline).await;
    let build = chroot.submit(&pipeline, "hello").await;
    let disabled = pipeline
        .cli
        .json(&["chroot", "disable", &chroot.name])
        .await;
    assert_eq!(disabled["enabled"], false, "{disabled:#}");
    let hello = Fixture::named("hello");
    let refused = ["submit", hello.path(), "--chroot", &chroot.name];
    let run = pipeline.cli.run(&refused).await;
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.contains("is disabled"), "{run:?}");
    let ended = pipeline.ended(build, LONG).await;
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    pipeline.cli.json(&["chroot", "enable", &chroot.name]).await;
    let build = chroot.submit(&pipeline, "hello").await;
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
