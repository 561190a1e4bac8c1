use millrace_domain::{AttemptState, BuildId, BuildState, OutcomeKind, Phase, TaskState};
use millrace_store::{Acceptance, CancelResult, ClaimOutcome, HeartbeatVerdict};

use crate::house::{CHROOT, House, OTHER_CHROOT, SILENT_SECONDS};

fn cancelled_quietly() -> CancelResult {
    CancelResult::Cancelled {
        hints: Vec::new(),
        revoked: Vec::new(),
    }
}

#[tokio::test]
async fn a_waiting_build_is_cancelled_at_once() {
    let house = House::new().await;
    let build = house.submit().await;
    house.builder("b1").await;
    assert_eq!(house.cancel(build).await, cancelled_quietly());
    let view = house.build(build).await;
    assert_eq!(view.state(), BuildState::Cancelled);
    assert!(view.cancelled_at.is_some());
    assert_eq!(
        view.tasks[0].outcome.as_ref().unwrap().kind,
        OutcomeKind::Cancelled
    );
    assert!(house.release().await.is_empty());
    assert_eq!(
        house.cancel(build).await,
        CancelResult::AlreadyFinished(BuildState::Cancelled)
    );
    assert_eq!(house.cancel(BuildId(4711)).await, CancelResult::Unknown);
}

#[tokio::test]
async fn a_released_build_is_cancelled_before_and_after_the_confirm() {
    let house = House::new().await;
    let builder = house.builder("b1").await;
    for confirmed in [false, true] {
        let build = house.submit().await;
        let attempt = house.release().await[0].attempt_id;
        if confirmed {
            assert_eq!(house.publish().await, 1);
        }
        assert_eq!(house.cancel(build).await, cancelled_quietly());
        house
            .assert_states(build, TaskState::Cancelled, AttemptState::Revoked)
            .await;
        assert_eq!(house.publish().await, 0, "nothing is left to publish");
        assert_eq!(
            house.try_claim(builder, attempt, "nonce").await,
            ClaimOutcome::Revoked
        );
    }
}

#[tokio::test]
async fn a_cancel_while_the_relay_publishes_wins_over_its_confirm() {
    let house = House::new().await;
    house.builder("b1").await;
    let build = house.submit().await;
    let entries = house.release().await;
    house.cancel(build).await;
    house.store().confirm_published(&entries).await.unwrap();
    house
        .assert_states(build, TaskState::Cancelled, AttemptState::Revoked)
        .await;
    assert_eq!(house.store().counts().await.unwrap().outbox, 0);
}

#[tokio::test]
async fn running_work_is_asked_to_stop_and_the_rest_of_the_build_never_starts() {
    let house = House::new().await;
    let builder = house.builder("b1").await;
    let build = house
        .submit_this(&house.new_build(&[CHROOT, OTHER_CHROOT]))
        .await;
    let attempt = house.offer().await;
    let claimed = house.claim(builder, attempt).await;
    let hints = CancelResult::Cancelled {
        hints: vec![(builder, attempt)],
        revoked: Vec::new(),
    };
    assert_eq!(house.cancel(build).await, hints);
    let view = house.build(build).await;
    assert_eq!(view.tasks[0].state, TaskState::Running);
    assert!(view.tasks[0].cancel_requested_at.is_some());
    assert_eq!(view.tasks[1].state, TaskState::Cancelled);
    assert_eq!(
        house.beat(claimed, Phase::Building).await,
        HeartbeatVerdict::Cancel
    );
    assert_eq!(house.cancel(build).await, hints);
    let answer = house.accept(claimed, OutcomeKind::Cancelled).await;
    assert_eq!(
        answer,
        Acceptance::Accepted {
            task_state: TaskState::Cancelled,
            set_aside: false,
        }
    );
    assert_eq!(house.build(build).await.state(), BuildState::Cancelled);
}

#[tokio::test]
async fn however_running_work_ends_after_a_cancel_it_is_cancelled_unless_it_succeeded() {
    let house = House::new().await;
    let builder = house.builder("b1").await;
    let ends = [
        (OutcomeKind::Succeeded, TaskState::Succeeded),
        (OutcomeKind::BuildFailed, TaskState::Cancelled),
        (OutcomeKind::SandboxFailed, TaskState::Cancelled),
    ];
    for (kind, state) in ends {
        let (build, claimed) = house.running(builder).await;
        house.cancel(build).await;
        assert_eq!(
            house.accept(claimed, kind).await,
            Acceptance::Accepted {
                task_state: state,
                set_aside: false
            }
        );
        let task = house.task(build).await;
        assert_eq!(
            task.outcome.unwrap().kind == kind,
            state == TaskState::Succeeded
        );
        assert_eq!(task.attempts[0].outcome.as_ref().unwrap().kind, kind);
    }
}

#[tokio::test]
async fn a_cancelled_task_whose_builder_dies_declines_or_is_revoked_is_cancelled() {
    let house = House::new().await;
    let builder = house.builder("b1").await;
    for way in ["dies", "declines", "revoked"] {
        let (build, claimed) = house.running(builder).await;
        house.cancel(build).await;
        match way {
            "dies" => {
                house.let_lease_run_out(claimed.attempt).await;
                assert_eq!(house.sweep().await.lost.len(), 1);
            }
            "declines" => {
                let store = house.store();
                let lease = Some(&claimed.lease);
                assert!(
                    store
                        .decline(builder, claimed.attempt, lease, "stopping")
                        .await
                        .unwrap()
                );
            }
            _ => {
                let revoked = house.store().revoke_attempt(claimed.attempt, "parked");
                assert!(revoked.await.unwrap());
            }
        }
        assert_eq!(house.task(build).await.state, TaskState::Cancelled, "{way}");
    }
}

#[tokio::test]
async fn cancels_and_claims_at_once_agree_on_who_was_first() {
    let house = House::new().await;
    let builder = house.builder("b1").await;
    for _ in 0..10 {
        let build = house.submit().await;
        let attempt = house.offer().await;
        let store = house.store().clone();
        let cancel =
            tokio::spawn(async move { store.cancel_build(build, SILENT_SECONDS).await.unwrap() });
        let claim = house.try_claim(builder, attempt, "nonce").await;
        let cancel = cancel.await.unwrap();
        match claim {
            ClaimOutcome::Granted { .. } => {
                let hints = vec![(builder, attempt)];
                let revoked = Vec::new();
                assert_eq!(cancel, CancelResult::Cancelled { hints, revoked });
                let revoked = house.store().revoke_attempt(attempt, "test");
                assert!(revoked.await.unwrap());
            }
            ClaimOutcome::Revoked => assert_eq!(cancel, cancelled_quietly()),
            ClaimOutcome::Taken | ClaimOutcome::Avoid | ClaimOutcome::NoRoom => {
                panic!("{claim:?}")
            }
        }
        assert_eq!(house.build(build).await.state(), BuildState::Cancelled);
    }
}
