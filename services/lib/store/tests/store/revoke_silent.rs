//! Cancelled work of builders that send no heartbeat.

use millrace_domain::{AttemptState, OutcomeKind, Phase, TaskState};
use millrace_store::{Acceptance, CancelResult, HeartbeatVerdict, LogAppend};

use crate::harness::Harness;

fn revoked(cancelled: &CancelResult) -> usize {
    match cancelled {
        CancelResult::Cancelled { revoked, .. } => revoked.len(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_cancel_takes_work_back_at_once_from_a_silent_builder_whose_words_are_refused() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    for phase in [Phase::Building, Phase::Spooled] {
        let (build, claimed) = harness.running(builder).await;
        assert_eq!(
            harness.beat(claimed, phase).await,
            HeartbeatVerdict::Continue
        );
        harness.let_fall_silent(builder, 13).await;
        assert_eq!(revoked(&harness.cancel(build).await), 1);
        harness
            .assert_states(build, TaskState::Cancelled, AttemptState::Revoked)
            .await;
        let task = harness.task(build).await;
        let outcome = task.outcome.unwrap();
        assert_eq!(outcome.kind, OutcomeKind::Cancelled);
        assert!(
            outcome.message.contains("builder b1") && outcome.message.contains("13 s"),
            "{}",
            outcome.message
        );
        assert_eq!(task.attempts_counted, 0);

        assert_eq!(
            harness.beat(claimed, Phase::Building).await,
            HeartbeatVerdict::Revoked
        );
        assert_eq!(
            harness.beat(claimed, Phase::Reported).await,
            HeartbeatVerdict::Refused
        );
        let log = harness
            .store()
            .append_log_size(claimed.attempt, &claimed.lease, 0, 7);
        assert_eq!(log.await.unwrap(), LogAppend::NoLease);
        let report = harness.accept(claimed, OutcomeKind::Succeeded).await;
        assert!(matches!(report, Acceptance::Refused(_)), "{report:?}");
        assert_eq!(harness.task(build).await.state, TaskState::Cancelled);
    }
}

#[tokio::test]
async fn a_builder_that_falls_silent_after_the_cancel_loses_the_work_to_a_sweep() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (build, claimed) = harness.running(builder).await;
    assert_eq!(
        revoked(&harness.cancel(build).await),
        0,
        "it was just heard"
    );
    harness.let_fall_silent(builder, 11).await;
    assert!(
        harness.sweep().await.cancelled.is_empty(),
        "not long enough"
    );
    harness.let_fall_silent(builder, 13).await;
    let swept = harness.sweep().await;
    assert_eq!(swept.cancelled.len(), 1);
    assert_eq!(swept.cancelled[0].1, claimed.attempt);
    harness
        .assert_states(build, TaskState::Cancelled, AttemptState::Revoked)
        .await;
    assert!(harness.sweep().await.cancelled.is_empty(), "once is enough");
}

#[tokio::test]
async fn silence_while_something_of_ours_was_away_is_not_the_builders() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (build, claimed) = harness.running(builder).await;
    harness.let_fall_silent(builder, 60).await;
    let gap = "update sweeper_ticks set ticked_at = now() - interval '60 seconds'";
    harness.database.execute(gap).await;
    assert_eq!(revoked(&harness.cancel(build).await), 0, "before the sweep");
    assert!(harness.sweep_after_gap().await.cancelled.is_empty());
    assert!(harness.sweep().await.cancelled.is_empty(), "and after it");
    assert_eq!(revoked(&harness.cancel(build).await), 0);
    assert_eq!(
        harness.beat(claimed, Phase::Building).await,
        HeartbeatVerdict::Cancel
    );

    let later = "update sweeper_ticks set resumed_at = now() - interval '13 seconds'";
    harness.database.execute(later).await;
    assert!(harness.sweep().await.cancelled.is_empty(), "it was heard");
    let silent = "update builders set last_seen_at = now() - interval '13 seconds'";
    harness.database.execute(silent).await;
    assert_eq!(harness.sweep().await.cancelled.len(), 1);
}

#[tokio::test]
async fn what_nobody_cancelled_waits_for_its_lease_and_a_fresh_claim_is_a_word() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (build, _) = harness.running(builder).await;
    harness.let_fall_silent(builder, 40).await;
    assert!(harness.sweep().await.cancelled.is_empty());
    harness
        .database
        .execute("update attempts set claimed_at = now()")
        .await;
    assert_eq!(revoked(&harness.cancel(build).await), 0);
    assert!(harness.sweep().await.cancelled.is_empty());
    harness
        .assert_states(build, TaskState::Running, AttemptState::Claimed)
        .await;
}
