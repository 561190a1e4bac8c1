use millrace_domain::{AttemptState, OutcomeKind, Phase, TaskState};
use millrace_store::{ClaimOutcome, HeartbeatVerdict};

use crate::harness::{Harness, SILENT_SECONDS};

#[tokio::test]
async fn a_lease_that_ran_out_makes_the_attempt_lost_and_another_builder_goes_first() {
    let harness = Harness::new().await;
    let (first, second) = (harness.builder("b1").await, harness.builder("b2").await);
    let (build, claimed) = harness.running(first).await;
    assert!(harness.sweep().await.lost.is_empty(), "the lease holds");
    harness.let_lease_run_out(claimed.attempt).await;
    let lost = harness.sweep().await.lost;
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].1, claimed.attempt);
    harness
        .assert_states(build, TaskState::Waiting, AttemptState::Lost)
        .await;
    let outcome = harness.attempt(claimed.attempt).await.outcome.unwrap();
    assert_eq!(outcome.kind, OutcomeKind::BuilderLost);
    assert!(outcome.message.contains("b1"), "{}", outcome.message);
    assert_eq!(
        harness.beat(claimed, Phase::Building).await,
        HeartbeatVerdict::Revoked
    );
    let attempt = harness.offer().await;
    assert_eq!(
        harness.try_claim(first, attempt, "nonce").await,
        ClaimOutcome::Avoid
    );
    let attempt = harness.offer().await;
    harness.claim(second, attempt).await;
    assert_eq!(harness.task(build).await.attempts_counted, 1);
}

#[tokio::test]
async fn the_third_lost_attempt_fails_the_task() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let build = harness.submit().await;
    for number in 1..=3 {
        let attempt = harness.offer().await;
        harness.claim(builder, attempt).await;
        harness.let_lease_run_out(attempt).await;
        assert_eq!(harness.sweep().await.lost.len(), 1);
        assert_eq!(harness.task(build).await.attempts_counted, number);
    }
    let task = harness.task(build).await;
    assert_eq!(task.state, TaskState::Failed);
    assert_eq!(task.outcome.unwrap().kind, OutcomeKind::BuilderLost);
}

#[tokio::test]
async fn after_a_gap_leases_are_extended_by_it_and_a_lease_instead_of_running_out() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (build, claimed) = harness.running(builder).await;
    harness
        .database
        .execute("update attempts set lease_until = now() - interval '100 seconds'")
        .await;
    harness
        .database
        .execute("update sweeper_ticks set ticked_at = now() - interval '120 seconds'")
        .await;
    let swept = harness.sweep_after_gap().await;
    assert_eq!((swept.extended, swept.lost.len()), (1, 0));
    harness
        .assert_states(build, TaskState::Running, AttemptState::Claimed)
        .await;
    // 100 s behind, 120 s of gap, and a lease of 45 s.
    let lease = "select (lease_until between now() + interval '60 seconds' and now() + interval '66 seconds')::text
        from attempts";
    assert_eq!(harness.database.fetch_text(lease).await.unwrap(), "true");
    let swept = harness.sweep_after_gap().await;
    assert_eq!(
        (swept.extended, swept.lost.len()),
        (0, 0),
        "the gap counts once"
    );
    harness.let_lease_run_out(claimed.attempt).await;
    assert_eq!(harness.sweep_after_gap().await.lost.len(), 1);
}

#[tokio::test]
async fn sweepers_at_once_lose_an_attempt_once() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (build, claimed) = harness.running(builder).await;
    harness.let_lease_run_out(claimed.attempt).await;
    let mut lost = 0;
    let config = millrace_store::SweepConfig {
        lease_seconds: 45,
        offer_seconds: 600,
        silent_seconds: SILENT_SECONDS,
    };
    let sweepers = (0..8).map(|_| {
        let store = harness.store().clone();
        tokio::spawn(async move { store.sweep(&config).await.unwrap().lost.len() })
    });
    for sweeper in sweepers.collect::<Vec<_>>() {
        lost += sweeper.await.unwrap();
    }
    assert_eq!(lost, 1);
    assert_eq!(harness.task(build).await.attempts_counted, 1);
}

#[tokio::test]
async fn an_offer_that_nobody_claims_in_time_is_made_anew_uncounted() {
    let harness = Harness::new().await;
    harness.builder("b1").await;
    let build = harness.submit().await;
    harness.offer().await;
    assert_eq!(harness.sweep().await.offers_expired, 0);
    harness
        .database
        .execute("update attempts set confirmed_at = now() - interval '601 seconds'")
        .await;
    assert_eq!(harness.sweep().await.offers_expired, 1);
    harness
        .assert_states(build, TaskState::Waiting, AttemptState::Revoked)
        .await;
    harness.offer().await;
    let task = harness.task(build).await;
    assert_eq!((task.attempts_counted, task.attempts.len()), (0, 2));
}

#[tokio::test]
async fn an_unconfirmed_offer_waits_as_long_as_the_broker_is_away_but_not_without_its_order() {
    let harness = Harness::new().await;
    harness.builder("b1").await;
    harness.submit().await;
    harness.release().await;
    harness
        .database
        .execute("update attempts set offered_at = now() - interval '1 day'")
        .await;
    assert_eq!(harness.sweep().await.offers_expired, 0);
    assert_eq!(harness.store().counts().await.unwrap().outbox, 1);
    harness.database.execute("delete from outbox").await;
    assert_eq!(harness.sweep().await.offers_expired, 1);
    assert_eq!(harness.release().await.len(), 1);
}

#[tokio::test]
async fn a_poison_order_ends_after_three_revocations() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let build = harness.submit().await;
    for number in 1..=3 {
        let attempt = harness.offer().await;
        if number == 2 {
            harness.claim(builder, attempt).await;
        }
        let revoke = || harness.store().revoke_attempt(attempt, "cannot be read");
        assert!(revoke().await.unwrap());
        assert!(!revoke().await.unwrap(), "it is over");
        assert_eq!(harness.task(build).await.attempts_counted, number);
    }
    let task = harness.task(build).await;
    assert_eq!(task.state, TaskState::Failed);
    let outcome = task.outcome.unwrap();
    assert_eq!(outcome.kind, OutcomeKind::InternalError);
    assert_eq!(outcome.message, "cannot be read");
}
