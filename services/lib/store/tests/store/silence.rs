//! Cancelled work of builders that are not heard of.

use millrace_domain::{AttemptState, OutcomeKind, Phase, TaskState};
use millrace_store::{Acceptance, CancelResult, HeartbeatVerdict, LogAppend};

use crate::house::House;

fn revoked(cancelled: &CancelResult) -> usize {
    match cancelled {
        CancelResult::Cancelled { revoked, .. } => revoked.len(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_cancel_takes_work_back_at_once_from_a_silent_builder_whose_words_are_refused() {
    let house = House::new().await;
    let builder = house.builder("b1").await;
    for phase in [Phase::Building, Phase::Spooled] {
        let (build, claimed) = house.running(builder).await;
        assert_eq!(house.beat(claimed, phase).await, HeartbeatVerdict::Continue);
        house.let_fall_silent(builder, 13).await;
        assert_eq!(revoked(&house.cancel(build).await), 1);
        house
            .assert_states(build, TaskState::Cancelled, AttemptState::Revoked)
            .await;
        let task = house.task(build).await;
        let outcome = task.outcome.unwrap();
        assert_eq!(outcome.kind, OutcomeKind::Cancelled);
        assert!(
            outcome.message.contains("builder b1") && outcome.message.contains("13 s"),
            "{}",
            outcome.message
        );
        assert_eq!(task.attempts_counted, 0);

        assert_eq!(
            house.beat(claimed, Phase::Building).await,
            HeartbeatVerdict::Revoked
        );
        assert_eq!(
            house.beat(claimed, Phase::Reported).await,
            HeartbeatVerdict::Refused
        );
        let log = house
            .store()
            .append_log_size(claimed.attempt, &claimed.lease, 0, 7);
        assert_eq!(log.await.unwrap(), LogAppend::NoLease);
        let report = house.accept(claimed, OutcomeKind::Succeeded).await;
        assert!(matches!(report, Acceptance::Refused(_)), "{report:?}");
        assert_eq!(house.task(build).await.state, TaskState::Cancelled);
    }
}

#[tokio::test]
async fn a_builder_that_falls_silent_after_the_cancel_loses_the_work_to_a_sweep() {
    let house = House::new().await;
    let builder = house.builder("b1").await;
    let (build, claimed) = house.running(builder).await;
    assert_eq!(revoked(&house.cancel(build).await), 0, "it was just heard");
    house.let_fall_silent(builder, 11).await;
    assert!(house.sweep().await.cancelled.is_empty(), "not long enough");
    house.let_fall_silent(builder, 13).await;
    let swept = house.sweep().await;
    assert_eq!(swept.cancelled.len(), 1);
    assert_eq!(swept.cancelled[0].1, claimed.attempt);
    house
        .assert_states(build, TaskState::Cancelled, AttemptState::Revoked)
        .await;
    assert!(house.sweep().await.cancelled.is_empty(), "once is enough");
}

#[tokio::test]
async fn silence_while_something_of_ours_was_away_is_not_the_builders() {
    let house = House::new().await;
    let builder = house.builder("b1").await;
    let (build, claimed) = house.running(builder).await;
    house.let_fall_silent(builder, 60).await;
    let gap = "update sweeper_ticks set ticked_at = now() - interval '60 seconds'";
    house.database.execute(gap).await;
    assert_eq!(revoked(&house.cancel(build).await), 0, "before the sweep");
    assert!(house.sweep_after_gap().await.cancelled.is_empty());
    assert!(house.sweep().await.cancelled.is_empty(), "and after it");
    assert_eq!(revoked(&house.cancel(build).await), 0);
    assert_eq!(
        house.beat(claimed, Phase::Building).await,
        HeartbeatVerdict::Cancel
    );

    let later = "update sweeper_ticks set resumed_at = now() - interval '13 seconds'";
    house.database.execute(later).await;
    assert!(house.sweep().await.cancelled.is_empty(), "it was heard");
    let silent = "update builders set last_seen_at = now() - interval '13 seconds'";
    house.database.execute(silent).await;
    assert_eq!(house.sweep().await.cancelled.len(), 1);
}

#[tokio::test]
async fn what_nobody_cancelled_waits_for_its_lease_and_a_fresh_claim_is_a_word() {
    let house = House::new().await;
    let builder = house.builder("b1").await;
    let (build, _) = house.running(builder).await;
    house.let_fall_silent(builder, 40).await;
    assert!(house.sweep().await.cancelled.is_empty());
    house
        .database
        .execute("update attempts set claimed_at = now()")
        .await;
    assert_eq!(revoked(&house.cancel(build).await), 0);
    assert!(house.sweep().await.cancelled.is_empty());
    house
        .assert_states(build, TaskState::Running, AttemptState::Claimed)
        .await;
}
