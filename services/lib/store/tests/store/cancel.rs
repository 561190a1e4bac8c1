use millrace_domain::{AttemptState, BuildId, BuildState, OutcomeKind, Phase, TaskState};
use millrace_store::{Acceptance, CancelResult, ClaimOutcome, HeartbeatVerdict};

use crate::harness::{CHROOT, Harness, OTHER_CHROOT, SILENT_SECONDS};

fn cancelled_quietly() -> CancelResult {
    CancelResult::Cancelled {
        hints: Vec::new(),
        revoked: Vec::new(),
    }
}

#[tokio::test]
async fn a_waiting_build_is_cancelled_at_once() {
    let harness = Harness::new().await;
    let build = harness.submit().await;
    harness.builder("b1").await;
    assert_eq!(harness.cancel(build).await, cancelled_quietly());
    let view = harness.build(build).await;
    assert_eq!(view.state(), BuildState::Cancelled);
    assert!(view.cancelled_at.is_some());
    assert_eq!(
        view.tasks[0].outcome.as_ref().unwrap().kind,
        OutcomeKind::Cancelled
    );
    assert!(harness.release().await.is_empty());
    assert_eq!(
        harness.cancel(build).await,
        CancelResult::AlreadyFinished(BuildState::Cancelled)
    );
    assert_eq!(harness.cancel(BuildId(4711)).await, CancelResult::Unknown);
}

#[tokio::test]
async fn a_released_build_is_cancelled_before_and_after_the_confirm() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    for confirmed in [false, true] {
        let build = harness.submit().await;
        let attempt = harness.release().await[0].attempt_id;
        if confirmed {
            assert_eq!(harness.publish().await, 1);
        }
        assert_eq!(harness.cancel(build).await, cancelled_quietly());
        harness
            .assert_states(build, TaskState::Cancelled, AttemptState::Revoked)
            .await;
        assert_eq!(harness.publish().await, 0, "nothing is left to publish");
        assert_eq!(
            harness.try_claim(builder, attempt, "nonce").await,
            ClaimOutcome::Revoked
        );
    }
}

#[tokio::test]
async fn a_cancel_while_the_relay_publishes_wins_over_its_confirm() {
    let harness = Harness::new().await;
    harness.builder("b1").await;
    let build = harness.submit().await;
    let entries = harness.release().await;
    harness.cancel(build).await;
    harness.store().confirm_published(&entries).await.unwrap();
    harness
        .assert_states(build, TaskState::Cancelled, AttemptState::Revoked)
        .await;
    assert_eq!(harness.store().counts().await.unwrap().outbox, 0);
}

#[tokio::test]
async fn running_work_is_asked_to_stop_and_the_rest_of_the_build_never_starts() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let build = harness
        .submit_this(&harness.new_build(&[CHROOT, OTHER_CHROOT]))
        .await;
    let attempt = harness.offer().await;
    let claimed = harness.claim(builder, attempt).await;
    let hints = CancelResult::Cancelled {
        hints: vec![(builder, attempt)],
        revoked: Vec::new(),
    };
    assert_eq!(harness.cancel(build).await, hints);
    let view = harness.build(build).await;
    assert_eq!(view.tasks[0].state, TaskState::Running);
    assert!(view.tasks[0].cancel_requested_at.is_some());
    assert_eq!(view.tasks[1].state, TaskState::Cancelled);
    assert_eq!(
        harness.beat(claimed, Phase::Building).await,
        HeartbeatVerdict::Cancel
    );
    assert_eq!(harness.cancel(build).await, hints);
    let answer = harness.accept(claimed, OutcomeKind::Cancelled).await;
    assert_eq!(
        answer,
        Acceptance::Accepted {
            task_state: TaskState::Cancelled,
            set_aside: false,
        }
    );
    assert_eq!(harness.build(build).await.state(), BuildState::Cancelled);
}

#[tokio::test]
async fn however_running_work_ends_after_a_cancel_it_is_cancelled_unless_it_succeeded() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let ends = [
        (OutcomeKind::Succeeded, TaskState::Succeeded),
        (OutcomeKind::BuildFailed, TaskState::Cancelled),
        (OutcomeKind::SandboxFailed, TaskState::Cancelled),
    ];
    for (kind, state) in ends {
        let (build, claimed) = harness.running(builder).await;
        harness.cancel(build).await;
        assert_eq!(
            harness.accept(claimed, kind).await,
            Acceptance::Accepted {
                task_state: state,
                set_aside: false
            }
        );
        let task = harness.task(build).await;
        assert_eq!(
            task.outcome.unwrap().kind == kind,
            state == TaskState::Succeeded
        );
        assert_eq!(task.attempts[0].outcome.as_ref().unwrap().kind, kind);
    }
}

#[tokio::test]
async fn a_cancelled_task_whose_builder_dies_declines_or_is_revoked_is_cancelled() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    for way in ["dies", "declines", "revoked"] {
        let (build, claimed) = harness.running(builder).await;
        harness.cancel(build).await;
        match way {
            "dies" => {
                harness.let_lease_run_out(claimed.attempt).await;
                assert_eq!(harness.sweep().await.lost.len(), 1);
            }
            "declines" => {
                let store = harness.store();
                let lease = Some(&claimed.lease);
                assert!(
                    store
                        .decline(builder, claimed.attempt, lease, "stopping")
                        .await
                        .unwrap()
                );
            }
            _ => {
                let revoked = harness.store().revoke_attempt(claimed.attempt, "parked");
                assert!(revoked.await.unwrap());
            }
        }
        assert_eq!(
            harness.task(build).await.state,
            TaskState::Cancelled,
            "{way}"
        );
    }
}

#[tokio::test]
async fn cancels_and_claims_at_once_agree_on_who_was_first() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    for _ in 0..10 {
        let build = harness.submit().await;
        let attempt = harness.offer().await;
        let store = harness.store().clone();
        let cancel =
            tokio::spawn(async move { store.cancel_build(build, SILENT_SECONDS).await.unwrap() });
        let claim = harness.try_claim(builder, attempt, "nonce").await;
        let cancel = cancel.await.unwrap();
        match claim {
            ClaimOutcome::Granted { .. } => {
                let hints = vec![(builder, attempt)];
                let revoked = Vec::new();
                assert_eq!(cancel, CancelResult::Cancelled { hints, revoked });
                let revoked = harness.store().revoke_attempt(attempt, "test");
                assert!(revoked.await.unwrap());
            }
            ClaimOutcome::Revoked => assert_eq!(cancel, cancelled_quietly()),
            ClaimOutcome::Taken | ClaimOutcome::Avoid | ClaimOutcome::NoRoom => {
                panic!("{claim:?}")
            }
        }
        assert_eq!(harness.build(build).await.state(), BuildState::Cancelled);
    }
}
