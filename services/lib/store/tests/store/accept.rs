use millrace_domain::{AttemptId, AttemptState, OutcomeKind, TaskState, Token};
use millrace_store::Acceptance;

use crate::harness::{Harness, report};

fn accepted(task_state: TaskState) -> Acceptance {
    Acceptance::Accepted {
        task_state,
        set_aside: false,
    }
}

#[tokio::test]
async fn a_report_is_accepted_once_and_its_repeat_changes_nothing() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (build, claimed) = harness.running(builder).await;
    assert_eq!(
        harness.accept(claimed, OutcomeKind::Succeeded).await,
        accepted(TaskState::Succeeded)
    );
    let before = harness.build(build).await;
    assert_eq!(
        harness.accept(claimed, OutcomeKind::BuildFailed).await,
        Acceptance::Duplicate
    );
    assert_eq!(harness.build(build).await, before);
    let attempt = &before.tasks[0].attempts[0];
    assert_eq!(attempt.state, AttemptState::Finished);
    assert_eq!(attempt.image_digest.as_deref(), Some("sha256:image"));
    assert_eq!(
        attempt.image_baked_at.map(|time| time.timestamp()),
        Some(1_800_000_000)
    );
    assert_eq!(attempt.packages.len(), 1);
    assert_eq!(before.tasks[0].outcome, attempt.outcome);
    assert!(before.tasks[0].ended_at.is_some());
}

#[tokio::test]
async fn twins_of_a_report_at_once_are_accepted_once() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (_, claimed) = harness.running(builder).await;
    let twins = (0..10).map(|_| {
        let store = harness.store().clone();
        tokio::spawn(async move {
            store
                .accept(&report(claimed, OutcomeKind::Succeeded))
                .await
                .unwrap()
        })
    });
    let mut answers = Vec::new();
    for twin in twins.collect::<Vec<_>>() {
        answers.push(twin.await.unwrap());
    }
    let taken = answers
        .iter()
        .filter(|a| **a == accepted(TaskState::Succeeded));
    assert_eq!(taken.count(), 1);
    assert!(
        answers
            .iter()
            .all(|a| *a == Acceptance::Duplicate || *a == accepted(TaskState::Succeeded))
    );
}

#[tokio::test]
async fn a_package_fault_fails_the_task_and_is_not_retried() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (build, claimed) = harness.running(builder).await;
    assert_eq!(
        harness.accept(claimed, OutcomeKind::OutOfMemory).await,
        accepted(TaskState::Failed)
    );
    assert!(harness.release().await.is_empty());
    let outcome = harness.task(build).await.outcome.unwrap();
    assert_eq!(outcome.kind, OutcomeKind::OutOfMemory);
}

#[tokio::test]
async fn words_without_the_lease_are_refused() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (build, claimed) = harness.running(builder).await;
    let mut forged = claimed;
    forged.lease = Token::new("guess").hash();
    let refused = |answer| matches!(answer, Acceptance::Refused(_));
    assert!(refused(
        harness.accept(forged, OutcomeKind::Succeeded).await
    ));
    let mut unknown = claimed;
    unknown.attempt = AttemptId::generate();
    assert!(refused(
        harness.accept(unknown, OutcomeKind::Succeeded).await
    ));
    harness
        .assert_states(build, TaskState::Running, AttemptState::Claimed)
        .await;
}

#[tokio::test]
async fn a_lost_attempt_that_still_finishes_is_refused() {
    let harness = Harness::new().await;
    let (first, second) = (harness.builder("b1").await, harness.builder("b2").await);
    let (build, stale) = harness.running(first).await;
    harness.let_lease_run_out(stale.attempt).await;
    harness.sweep().await;
    let refused = harness.accept(stale, OutcomeKind::Succeeded).await;
    assert!(matches!(refused, Acceptance::Refused(_)));
    let attempt = harness.offer().await;
    let current = harness.claim(second, attempt).await;
    let refused = harness.accept(stale, OutcomeKind::Succeeded).await;
    assert!(matches!(refused, Acceptance::Refused(_)));
    assert_eq!(
        harness.accept(current, OutcomeKind::BuildFailed).await,
        accepted(TaskState::Failed)
    );
    assert_eq!(harness.task(build).await.attempts.len(), 2);
}

#[tokio::test]
async fn faults_of_ours_are_tried_three_times_and_the_third_fails_the_task() {
    let harness = Harness::new().await;
    let (first, second) = (harness.builder("b1").await, harness.builder("b2").await);
    let build = harness.submit().await;
    let faults = [
        (first, OutcomeKind::SandboxFailed, TaskState::Waiting),
        (second, OutcomeKind::BuilderDiskFull, TaskState::Waiting),
        (first, OutcomeKind::InternalError, TaskState::Failed),
    ];
    for (number, (builder, kind, state)) in (1..).zip(faults) {
        let attempt = harness.offer().await;
        let claimed = harness.claim(builder, attempt).await;
        assert_eq!(harness.accept(claimed, kind).await, accepted(state));
        let task = harness.task(build).await;
        assert_eq!((task.state, task.attempts_counted), (state, number));
        assert_eq!(task.attempts.last().unwrap().number, number);
    }
    let outcome = harness.task(build).await.outcome.unwrap();
    assert_eq!(outcome.kind, OutcomeKind::InternalError);
    assert!(harness.release().await.is_empty());
}
