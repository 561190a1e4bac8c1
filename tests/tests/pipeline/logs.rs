//! A log is bytes that a package wrote: kept as they are, and harmless wherever a person looks at them.

#![expect(clippy::unwrap_used, reason = "a test fails on the spot")]

use std::time::Duration;

use millrace_tests::{Fixture, Pipeline, PipelineOptions, http_get};
use tokio::process::Command;

/// What the command prints on a terminal of its own.
async fn on_a_terminal(pipeline: &Pipeline, args: &str) -> Vec<u8> {
    let line = format!("{} {args}", pipeline.cli.binary.display());
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env("MILLRACE_URL", &pipeline.cli.url)
        .env("MILLRACE_TOKEN", &pipeline.cli.token)
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

#[tokio::test]
async fn what_a_package_prints_steers_neither_a_terminal_nor_a_page() {
    let pipeline = Pipeline::start(PipelineOptions::default()).await;
    let chroot = pipeline.settings.chroot.clone();
    let fixture = Fixture::named("bad-text");
    let args = ["--chroot", &chroot, "--memory", "512"];
    let build = pipeline.cli.submit(fixture.path(), &args).await;
    let ended = pipeline.ended(build, Duration::from_mins(3)).await;
    assert_eq!(ended["state"], "succeeded", "{ended:#}");

    let url = format!("{}/api/v1/builds/{build}/log", pipeline.cli.url);
    let answer = http_get(&url).await;
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(header("x-content-type-options"), "nosniff");
    let kept = answer.bytes().await.unwrap();
    let holds = |part: &[u8]| kept.windows(part.len()).any(|window| window == part);
    assert!(holds(b"before \xff\xfe after") && holds(b"\x1b[2J") && holds(b"overwritten\rwritten"));

    let piped = pipeline
        .cli
        .command(&["log", &build.to_string()])
        .output()
        .await
        .unwrap();
    assert!(piped.stdout == kept, "into a pipe the bytes go as they are");

    for command in [format!("log {build}"), format!("show {build}")] {
        let shown = on_a_terminal(&pipeline, &command).await;
        let text = String::from_utf8(shown).unwrap();
        let text = text.replace("\r\n", "\n");
        let steers = |c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}';
        assert!(!text.chars().any(steers), "{command}: {text:?}");
        if command.starts_with("log") {
            assert!(
                text.contains("\u{fffd}[2J") && text.contains("no end of line"),
                "{text:?}"
            );
        }
    }
    pipeline.stop().await;
}
