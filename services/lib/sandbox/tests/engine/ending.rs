//! Sandboxes that are ended: by the wall limit, by a cancel, by force.

use std::time::Duration;

use millrace_sandbox::{SandboxError, SandboxHandle};
use millrace_supervisor::StepEnd;

use crate::harness::{Harness, plan};

/// Waits until the sandbox has said something, which means that its script runs.
async fn until_it_speaks(handle: &mut SandboxHandle) {
    let mut log = handle.take_log().unwrap();
    let first = tokio::time::timeout(Duration::from_secs(20), log.recv()).await;
    assert!(first.unwrap().is_some());
    // Somebody has to go on reading.
    tokio::spawn(async move { while log.recv().await.is_some() {} });
}

#[tokio::test]
async fn the_wall_limit_interrupts_first_and_keeps_the_log_to_its_last_line() {
    let harness = Harness::open().await;
    let script = "trap 'echo caught; exit 7' INT; echo begun; while :; do sleep 0.1; done";
    let finished = harness.run(plan(script, 2)).await;
    let report = finished.report();
    assert!(report.timed_out() && !report.cancelled && !report.abandoned);
    assert_eq!(report.exit_code(), Some(7));
    let lines: Vec<_> = finished.log.lines().collect();
    assert_eq!(lines[0], "begun");
    assert!(lines[1].starts_with("millrace: the time limit of 2 s was hit"));
    assert_eq!(lines[2], "caught");
    assert!(finished.seconds < 6.0, "{} s", finished.seconds);
}

#[tokio::test]
async fn what_ignores_the_interrupt_is_killed_after_its_grace() {
    let harness = Harness::open().await;
    let mut plan = plan("trap '' INT; echo begun; while :; do sleep 1; done", 1);
    plan.timeout_grace_seconds = 2;
    let finished = harness.run(plan).await;
    assert!(finished.report().timed_out());
    assert_eq!(finished.report().steps[0].end, StepEnd::Signal(9));
    assert!(
        (2.5..8.0).contains(&finished.seconds),
        "{} s",
        finished.seconds
    );
}

#[tokio::test]
async fn a_background_child_that_keeps_writing_is_ended_by_the_wall_limit() {
    let harness = Harness::open().await;
    let script =
        "(trap '' INT; n=0; while :; do n=$((n+1)); echo tick $n; sleep 0.1; done) & exit 0";
    let finished = harness.run(plan(script, 3)).await;
    let report = finished.report();
    assert!(report.timed_out());
    assert_eq!(report.exit_code(), Some(0));
    assert!(finished.log.lines().count() > 10);
    assert_eq!(report.log_bytes, finished.log.len() as u64);
    assert!(finished.seconds < 18.0, "{} s", finished.seconds);
}

#[tokio::test]
async fn a_reader_who_stalls_does_not_stall_the_limits() {
    let harness = Harness::open().await;
    let mut plan = plan(
        "yes 'a line of some length that fills every buffer on its way'",
        2,
    );
    plan.timeout_grace_seconds = 1;
    let mut handle = harness.start(plan).await;
    let unread = handle.take_log().unwrap();
    let ended = handle.wait().await.unwrap();
    let report = ended.report.unwrap();
    assert!(report.timed_out() && ended.lost_log_bytes > 0);
    assert!(report.wall_seconds < 10.0, "{} s", report.wall_seconds);
    drop(unread);
    handle.remove().await.unwrap();
    harness.assert_empty().await;
}

#[tokio::test]
async fn a_cancel_is_heard_by_the_build() {
    let harness = Harness::open().await;
    let mut handle = harness
        .start(plan(
            "trap 'exit 7' INT; echo begun; while :; do sleep 0.1; done",
            60,
        ))
        .await;
    until_it_speaks(&mut handle).await;
    handle.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(3), handle.wait()).await;
    let report = ended.unwrap().unwrap().report.unwrap();
    assert!(report.cancelled && !report.timed_out());
    assert_eq!(report.exit_code(), Some(7));
    handle.remove().await.unwrap();
    harness.assert_empty().await;
}

#[tokio::test]
async fn a_cancel_takes_three_seconds_at_most_for_what_ignores_it() {
    let harness = Harness::open().await;
    let mut handle = harness
        .start(plan(
            "trap '' INT; echo begun; while :; do sleep 1; done",
            60,
        ))
        .await;
    until_it_speaks(&mut handle).await;
    let started = std::time::Instant::now();
    handle.cancel();
    let report = handle.wait().await.unwrap().report.unwrap();
    assert!(report.cancelled);
    let seconds = started.elapsed().as_secs_f64();
    assert!((2.5..5.0).contains(&seconds), "{seconds} s");
    handle.remove().await.unwrap();
    harness.assert_empty().await;
}

#[tokio::test]
async fn a_kill_from_outside_leaves_no_report_and_removing_twice_is_fine() {
    let harness = Harness::open().await;
    let mut handle = harness.start(plan("echo begun; sleep 1000", 60)).await;
    until_it_speaks(&mut handle).await;
    handle.kill().await.unwrap();
    let ended = handle.wait().await.unwrap();
    assert_eq!((ended.exit_code, ended.report), (137, None));
    handle.kill().await.unwrap();
    handle.remove().await.unwrap();
    handle.remove().await.unwrap();
    harness.assert_empty().await;
}

#[tokio::test]
async fn a_container_that_somebody_removed_has_vanished() {
    let harness = Harness::open().await;
    let mut handle = harness.start(plan("echo begun; sleep 1000", 60)).await;
    until_it_speaks(&mut handle).await;
    let swept = harness
        .engine
        .sweep(millrace_sandbox::SweepFilter::OwnedBy(harness.builder))
        .await;
    assert_eq!(swept.unwrap().len(), 1);
    let error = handle.wait().await.unwrap_err();
    assert!(matches!(error, SandboxError::Vanished { .. }), "{error}");
    handle.remove().await.unwrap();
}
