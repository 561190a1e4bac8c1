//! The supervisor's own limits on log, silence and disk space.

use millrace_supervisor::{LimitHit, LogCaps, Step, StepEnd};

use crate::harness::{Harness, MIB, plan, shell};

const KIB: u64 = 1 << 10;

fn log_caps(head: u64, tail: u64, hard: u64) -> LogCaps {
    LogCaps {
        head_bytes: head,
        tail_bytes: tail,
        hard_bytes: hard,
    }
}

#[tokio::test]
async fn a_long_log_keeps_its_beginning_and_its_end_and_counts_the_rest() {
    let harness = Harness::open().await;
    let mut plan = plan("echo first; seq 1 200000; echo last", 60);
    plan.log = log_caps(64 * KIB, 32 * KIB, 100 * MIB);
    let finished = harness.run(plan).await;
    let report = finished.report();
    assert!(report.is_clean() && report.log_bytes_unread == 0);
    assert!(finished.log.starts_with("first\n1\n2\n") && finished.log.ends_with("200000\nlast\n"));
    let left_out = report.log_bytes - 96 * KIB;
    let marker = format!("\nmillrace: {left_out} bytes of the log were left out here\n");
    assert!(finished.log.contains(&marker), "no marker {marker:?}");
    assert_eq!(finished.log.len() as u64, 96 * KIB + marker.len() as u64);
}

#[tokio::test]
async fn a_stage_in_the_kept_end_has_its_place_in_the_stored_log() {
    let harness = Harness::open().await;
    let script = "seq 1 200000; echo 'Executing(%build): x'; echo last";
    let mut plan = plan(script, 60);
    plan.log = log_caps(64 * KIB, 32 * KIB, 100 * MIB);
    let finished = harness.run(plan).await;
    let mark = finished.report().stages.last().unwrap();
    assert_eq!(mark.stage, "build");
    let at = usize::try_from(mark.log_offset).unwrap();
    assert!(finished.log[at..].starts_with("Executing(%build)"));
}

#[tokio::test]
async fn an_endless_log_and_an_endless_line_are_ended_by_the_hard_limit() {
    let harness = Harness::open().await;
    for script in ["yes 'line after line'", "tr '\\0' x < /dev/zero"] {
        let mut plan = plan(script, 120);
        plan.log = log_caps(MIB, MIB, 20 * MIB);
        let finished = harness.run(plan).await;
        let report = finished.report();
        assert!(report.limit_hit == Some(LimitHit::Log), "{script}");
        assert!(
            report.log_bytes > 20 * MIB && report.log_bytes < 40 * MIB,
            "{report:?}"
        );
        assert!((finished.log.len() as u64) < 3 * MIB);
        assert!(
            finished.log.contains("larger than its limit of 20 MiB"),
            "{script}: {report:?}: {}",
            &finished.log[finished.log.len() - 200..]
        );
    }
}

#[tokio::test]
async fn silence_ends_a_build_and_output_does_not() {
    let harness = Harness::open().await;
    let mut silent = plan("echo begun; sleep 60", 60);
    silent.silence_limit_seconds = Some(2);
    let finished = harness.run(silent).await;
    assert!(finished.report().limit_hit == Some(LimitHit::Silence));
    assert!(finished.log.contains("no output for 2 s"));
    assert!(finished.seconds < 10.0, "{} s", finished.seconds);
    let mut talking = plan("for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.5; done", 60);
    talking.silence_limit_seconds = Some(2);
    assert!(harness.run(talking).await.report().is_clean());
}

#[tokio::test]
async fn a_disk_hog_is_ended_whether_its_file_has_a_name_or_not() {
    let harness = Harness::open().await;
    let named = "dd if=/dev/zero of=/var/tmp/hog bs=1M count=3000; sleep 60";
    let unnamed =
        "exec 9>/var/tmp/hog; rm /var/tmp/hog; dd if=/dev/zero bs=1M count=3000 >&9; sleep 60";
    for script in [named, unnamed] {
        let mut plan = plan(script, 100);
        plan.disk_limit_bytes = Some(300 * MIB);
        let finished = harness.run(plan).await;
        let report = finished.report();
        assert!(
            report.limit_hit == Some(LimitHit::Disk),
            "{script}: {report:?}"
        );
        assert!(report.disk_bytes > Some(300 * MIB));
        assert!(
            finished
                .log
                .contains("more disk space than its limit of 300 MiB")
        );
    }
}

#[tokio::test]
async fn a_build_below_its_disk_limit_is_left_alone_and_measured() {
    let harness = Harness::open().await;
    let script =
        "dd if=/dev/zero of=/var/tmp/some bs=1M count=200; sleep 3; rm /var/tmp/some; sleep 1";
    let mut plan = plan(script, 100);
    plan.disk_limit_bytes = Some(400 * MIB);
    let finished = harness.run(plan).await;
    assert!(finished.report().is_clean());
    assert!(finished.report().lowest_free_bytes.is_some());
}

#[tokio::test]
async fn what_is_left_after_a_limit_is_not_started() {
    let harness = Harness::open().await;
    let mut plan = plan("echo begun; sleep 60", 60);
    plan.silence_limit_seconds = Some(1);
    plan.steps.push(Step {
        name: "second".to_owned(),
        ..shell("echo never")
    });
    let finished = harness.run(plan).await;
    assert!(!finished.log.contains("never"));
    assert_eq!(finished.report().steps.len(), 1);
    assert_ne!(finished.report().steps[0].end, StepEnd::Exit(0));
}
