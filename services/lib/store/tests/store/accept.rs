use millrace_domain::{AttemptId, AttemptState, OutcomeKind, TaskState, Token};
use millrace_store::Acceptance;

use crate::house::{House, report};

fn accepted(task_state: TaskState) -> Acceptance {
    Acceptance::Accepted {
        task_state,
        set_aside: false,
    }
}

#[tokio::test]
async fn a_report_is_accepted_once_and_its_repeat_changes_nothing() {
    let house = House::new().await;
    let builder = house.builder("b1").await;
    let (build, claimed) = house.running(builder).await;
    assert_eq!(
        house.accept(claimed, OutcomeKind::Succeeded).await,
        accepted(TaskState::Succeeded)
    );
    let before = house.build(build).await;
    assert_eq!(
        house.accept(claimed, OutcomeKind::BuildFailed).await,
        Acceptance::Duplicate
    );
    assert_eq!(house.build(build).await, before);
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
    let house = House::new().await;
    let builder = house.builder("b1").await;
    let (_, claimed) = house.running(builder).await;
    let twins = (0..10).map(|_| {
        let store = house.store().clone();
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
    let house = House::new().await;
    let builder = house.builder("b1").await;
    let (build, claimed) = house.running(builder).await;
    assert_eq!(
        house.accept(claimed, OutcomeKind::OutOfMemory).await,
        accepted(TaskState::Failed)
    );
    assert!(house.release().await.is_empty());
    let outcome = house.task(build).await.outcome.unwrap();
    assert_eq!(outcome.kind, OutcomeKind::OutOfMemory);
}

#[tokio::test]
async fn words_without_the_lease_are_refused() {
    let house = House::new().await;
    let builder = house.builder("b1").await;
    let (build, claimed) = house.running(builder).await;
    let mut forged = claimed;
    forged.lease = Token::new("guess").hash();
    let refused = |answer| matches!(answer, Acceptance::Refused(_));
    assert!(refused(house.accept(forged, OutcomeKind::Succeeded).await));
    let mut unknown = claimed;
    unknown.attempt = AttemptId::generate();
    assert!(refused(house.accept(unknown, OutcomeKind::Succeeded).await));
    house
        .assert_states(build, TaskState::Running, AttemptState::Claimed)
        .await;
}

#[tokio::test]
async fn a_lost_attempt_that_still_finishes_is_refused() {
    let house = House::new().await;
    let (first, second) = (house.builder("b1").await, house.builder("b2").await);
    let (build, stale) = house.running(first).await;
    house.let_lease_run_out(stale.attempt).await;
    house.sweep().await;
    let refused = house.accept(stale, OutcomeKind::Succeeded).await;
    assert!(matches!(refused, Acceptance::Refused(_)));
    let attempt = house.offer().await;
    let current = house.claim(second, attempt).await;
    let refused = house.accept(stale, OutcomeKind::Succeeded).await;
    assert!(matches!(refused, Acceptance::Refused(_)));
    assert_eq!(
        house.accept(current, OutcomeKind::BuildFailed).await,
        accepted(TaskState::Failed)
    );
    assert_eq!(house.task(build).await.attempts.len(), 2);
}

#[tokio::test]
async fn faults_of_ours_are_tried_three_times_and_the_third_fails_the_task() {
    let house = House::new().await;
    let (first, second) = (house.builder("b1").await, house.builder("b2").await);
    let build = house.submit().await;
    let faults = [
        (first, OutcomeKind::SandboxFailed, TaskState::Waiting),
        (second, OutcomeKind::BuilderDiskFull, TaskState::Waiting),
        (first, OutcomeKind::InternalError, TaskState::Failed),
    ];
    for (number, (builder, kind, state)) in (1..).zip(faults) {
        let attempt = house.offer().await;
        let claimed = house.claim(builder, attempt).await;
        assert_eq!(house.accept(claimed, kind).await, accepted(state));
        let task = house.task(build).await;
        assert_eq!((task.state, task.attempts_counted), (state, number));
        assert_eq!(task.attempts.last().unwrap().number, number);
    }
    let outcome = house.task(build).await.outcome.unwrap();
    assert_eq!(outcome.kind, OutcomeKind::InternalError);
    assert!(house.release().await.is_empty());
}
