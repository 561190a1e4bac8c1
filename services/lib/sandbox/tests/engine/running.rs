//! Sandboxes that end by themselves.

use millrace_sandbox::Runtime;
use millrace_supervisor::{Notice, Plan, StepEnd};

use crate::harness::{Harness, plan, shell};

#[tokio::test]
async fn a_success_has_its_whole_log_in_order() {
    let harness = Harness::open().await;
    let finished = harness.run(plan("seq 1 300000", 60)).await;
    let lines: Vec<String> = (1..=300_000).map(|n: u32| n.to_string()).collect();
    let expected = lines.join("\n") + "\n";
    assert!(finished.log == expected, "{} bytes", finished.log.len());
    let report = finished.report();
    assert!(report.is_clean() && finished.ended.exit_code == 0);
    assert_eq!(report.log_bytes, expected.len() as u64);
    assert!(report.cpu_seconds > 0.0 && report.memory_limit_bytes == Some(256 << 20));
    assert_eq!(report.faults, Vec::<String>::new());
}

#[tokio::test]
async fn the_first_step_that_fails_is_the_last() {
    let harness = Harness::open().await;
    let plan = Plan::new(vec![shell("exit 0"), shell("exit 30"), shell("exit 0")], 60);
    let finished = harness.run(plan).await;
    let ends: Vec<_> = finished
        .report()
        .steps
        .iter()
        .map(|s| s.end.clone())
        .collect();
    assert_eq!(ends, [StepEnd::Exit(0), StepEnd::Exit(30)]);
    assert_eq!(finished.report().exit_code(), Some(30));
    assert!(!finished.report().is_clean() && finished.ended.exit_code == 0);
}

#[tokio::test]
async fn a_command_that_is_not_there_is_told_in_log_and_report() {
    let harness = Harness::open().await;
    let mut plan = plan("", 60);
    plan.steps[0].argv = vec!["/no/such/program".into()];
    let finished = harness.run(plan).await;
    assert!(matches!(
        &finished.report().steps[0].end,
        StepEnd::NotStarted(reason) if reason.contains("/no/such/program")
    ));
    assert!(finished.log.contains("was not started"));
}

#[tokio::test]
async fn stages_are_told_while_they_run_and_point_into_the_log() {
    let harness = Harness::open().await;
    let script = "echo one; sleep 0.3; echo 'Start: chroot init' >&2; sleep 0.3; \
                  echo 'Finish: chroot init' >&2; sleep 0.3; echo 'Executing(%prep): x'; sleep 0.3; \
                  echo 'Executing(%build): x'";
    let mut handle = harness.start(plan(script, 60)).await;
    let mut notices = handle.take_notices().unwrap();
    let finished = harness.finish(handle).await;
    let mut told = Vec::new();
    while let Ok(notice) = notices.try_recv() {
        if let Notice::Stage(mark) = notice {
            told.push(mark.stage);
        }
    }
    assert_eq!(told, ["buildroot", "dependencies", "prep", "build"]);
    let report = finished.report();
    assert_eq!(report.last_stage.as_deref(), Some("build"));
    for mark in &report.stages[2..] {
        let at = usize::try_from(mark.log_offset).unwrap();
        assert!(finished.log[at..].starts_with("Executing(%"), "{mark:?}");
    }
    assert!(report.stages.iter().all(|mark| mark.seconds.is_some()));
}

#[tokio::test]
async fn a_silent_background_child_changes_nothing() {
    let harness = Harness::open().await;
    let finished = harness.run(plan("sleep 1000 & echo done", 60)).await;
    assert!(finished.report().is_clean());
    assert_eq!(finished.log, "done\n");
    assert!(finished.seconds < 10.0, "{} s", finished.seconds);
}

#[tokio::test]
async fn the_source_and_the_environment_arrive() {
    let harness = Harness::open().await;
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("any-name");
    let content: Vec<u8> = (0..3_000_001u32).map(|n| (n % 253) as u8).collect();
    std::fs::write(&source, &content).unwrap();
    let script = "wc -c </millrace/source.src.rpm; echo $A $B $C; hostname; stat -c %u:%g:%a /millrace/results";
    let mut files = Harness::files(plan(script, 60));
    files.source = Some(source);
    files.max_source_bytes = 4_000_000;
    files.plan.env = vec![("B".into(), "plan".into()), ("C".into(), "plan".into())];
    files.plan.steps[0].env = vec![("C".into(), "step".into())];
    files.plan.result_owner = Some(millrace_supervisor::Owner { uid: 12, gid: 34 });
    let mut spec = harness.spec();
    spec.env = vec![("A".into(), "spec".into()), ("B".into(), "spec".into())];
    let runtime = Runtime::Engine(harness.engine.clone());
    let handle = runtime.start(&spec, &files).await.unwrap();
    let finished = harness.finish(handle).await;
    assert_eq!(
        finished.log,
        "3000001\nspec plan step\nmillrace\n12:34:755\n"
    );
}

#[tokio::test]
async fn a_plan_without_steps_is_refused_in_words() {
    let harness = Harness::open().await;
    let finished = harness.run(Plan::new(Vec::new(), 60)).await;
    assert_eq!(finished.ended.exit_code, 64);
    assert!(finished.ended.report.is_none() && finished.ended.stray.contains("no steps"));
}
