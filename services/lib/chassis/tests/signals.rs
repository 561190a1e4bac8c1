//! Real signals to a real process: this test starts itself again as the process.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use millrace_chassis::Lifecycle;

/// Set in the child, with what its part does.
const ROLE: &str = "MILLRACE_TEST_ROLE";

#[tokio::main(flavor = "current_thread")]
async fn child(role: &str) -> ExitCode {
    let mut lifecycle = Lifecycle::new(Some(Duration::from_mins(1))).unwrap();
    let shutdown = lifecycle.shutdown();
    let stubborn = role == "stubborn";
    lifecycle.spawn("part", async move {
        println!("ready");
        shutdown.stopping().await;
        println!("stopping");
        if stubborn {
            shutdown.hard().cancelled().await;
            println!("dropping");
        }
        Ok::<(), std::io::Error>(())
    });
    lifecycle.run().await
}

/// Starts the child and sends it each signal after the line before it was seen; gives all lines and the exit code.
fn run(role: &str, steps: &[(&str, &str)]) -> (Vec<String>, Option<i32>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "signals_stop_a_process_softly_then_hard",
            "--nocapture",
        ])
        .env(ROLE, role)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = Vec::new();
    let mut steps = steps.iter();
    let mut step = steps.next();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some((wanted, signal)) = step
            && line.ends_with(wanted)
        {
            let sent = Command::new("kill")
                .args([format!("-{signal}"), child.id().to_string()])
                .status()
                .unwrap();
            assert!(sent.success());
            step = steps.next();
        }
        seen.push(line);
    }
    (seen, child.wait().unwrap().code())
}

#[test]
fn signals_stop_a_process_softly_then_hard() {
    if let Ok(role) = std::env::var(ROLE) {
        let failed = format!("{:?}", child(&role)) == format!("{:?}", ExitCode::FAILURE);
        std::process::exit(i32::from(failed));
    }
    let (seen, code) = run("polite", &[("ready", "TERM")]);
    assert!(seen.iter().any(|line| line == "stopping"), "{seen:?}");
    assert_eq!(code, Some(0));

    let (seen, code) = run("stubborn", &[("ready", "INT"), ("stopping", "TERM")]);
    assert!(seen.iter().any(|line| line == "dropping"), "{seen:?}");
    assert_eq!(code, Some(1));
}
