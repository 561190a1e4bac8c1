//! Extra repositories: both shapes are found, and a broken one fails in short time with its name.

#![expect(
    clippy::unwrap_used,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "a test fails on the spot, and rpm writes its names in lower case"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use millrace_tests::{
    Fixture, FolderServer, Pipeline, PipelineOptions, SilentServer, free_port, make_repository,
};
use serde_json::Value;

const LONG: Duration = Duration::from_mins(5);

/// Builds a fixture with a repository and gives its outcome.
async fn outcome(pipeline: &Pipeline, name: &str, url: &str) -> Value {
    let chroot = &pipeline.settings.chroot;
    let args = ["--chroot", chroot, "--memory", "512", "--repo", url];
    let build = pipeline
        .cli
        .submit(Fixture::named(name).path(), &args)
        .await;
    let ended = pipeline.ended(build, LONG).await;
    ended["tasks"][0]["outcome"].clone()
}

fn binary_packages(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.to_str().unwrap();
        if path.is_dir() {
            found.extend(binary_packages(&path));
        } else if name.ends_with(".rpm") && !name.ends_with(".src.rpm") {
            found.push(path);
        }
    }
    found
}

/// A repository with lib-a in a folder, and the same one in its architecture's folder below another.
async fn make_both_shapes(pipeline: &Pipeline, home: &Path) {
    let chroot = pipeline.settings.chroot.clone();
    let arch = chroot.rsplit_once('-').unwrap().1;
    let lib_a = Fixture::named("lib-a");
    let args = ["--chroot", &chroot, "--memory", "512"];
    let build = pipeline.cli.submit(lib_a.path(), &args).await;
    let ended = pipeline.ended(build, LONG).await;
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    let downloaded = home.join("downloaded");
    let args = [
        "download",
        &build.to_string(),
        "--dest",
        downloaded.to_str().unwrap(),
    ];
    let run = pipeline.cli.run(&args).await;
    assert_eq!(run.code, 0, "{run:?}");
    for place in ["www/flat".to_owned(), format!("www/arches/{arch}")] {
        let place = home.join(place);
        std::fs::create_dir_all(&place).unwrap();
        for package in binary_packages(&downloaded) {
            std::fs::copy(&package, place.join(package.file_name().unwrap())).unwrap();
        }
        make_repository(&place);
    }
}

#[tokio::test]
async fn a_repository_is_found_at_its_url_and_in_its_architectures_folder() {
    let pipeline = Pipeline::start(PipelineOptions::default()).await;
    let home = tempfile::tempdir().unwrap();
    make_both_shapes(&pipeline, home.path()).await;
    let server = FolderServer::start(home.path().join("www")).await;
    let host = server.for_sandboxes();
    for path in ["flat", "flat/", "arches", "arches/$basearch/"] {
        let outcome = outcome(&pipeline, "needs-a", &format!("http://{host}/{path}")).await;
        assert_eq!(outcome["kind"], "succeeded", "{path}: {outcome:#}");
    }
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

#[tokio::test]
async fn a_broken_repository_is_named_in_seconds_and_a_silent_one_in_half_a_minute() {
    let pipeline = Pipeline::start(PipelineOptions::default()).await;
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(home.path().join("page/repodata")).unwrap();
    std::fs::write(home.path().join("page/repodata/repomd.xml"), "<html>").unwrap();
    let server = FolderServer::start(home.path().to_owned()).await;
    let silent = SilentServer::start();
    let host = server.for_sandboxes();
    let (name, _) = host.split_once(':').unwrap();
    for (url, within) in [
        (format!("http://{host}/absent/"), 10.0),
        (format!("http://{host}/page/"), 10.0),
        (format!("http://{name}:{}/refused/", free_port()), 10.0),
        (format!("https://{host}/no-tls/"), 10.0),
        (format!("http://{}/silent/", silent.for_sandboxes()), 30.0),
    ] {
        // It needs nothing of the repository.
        let outcome = outcome(&pipeline, "hello", &url).await;
        assert_eq!(outcome["kind"], "dependency_failed", "{url}: {outcome:#}");
        assert_eq!(outcome["stage"], "dependencies", "{url}: {outcome:#}");
        let message = outcome["message"].as_str().unwrap();
        assert!(message.contains(&url), "{url}: {message}");
        let took = outcome["wall_seconds"].as_f64().unwrap();
        assert!(took < within, "{url} took {took} s");
    }
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}
