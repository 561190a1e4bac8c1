//! What pollers lose: by silence, by time, by a cancel, by their end.

use millrace_domain::{AttemptState, TaskState, Token};
use millrace_store::NewPoller;

use crate::harness::{CHROOT, Harness, OTHER_CHROOT};
use crate::pollers::{
    MARGIN, SILENCE, add, ended, fetch, lease, new_poller, poller, report, started,
};

async fn run_out(harness: &Harness) {
    let sql =
        "update attempts set lease_until = now() - interval '1 second' where state = 'claimed'";
    harness.database.execute(sql).await;
}

#[tokio::test]
async fn silence_gives_what_was_not_begun_to_the_queue_and_late_words_are_ignored() {
    let harness = Harness::new().await;
    harness.builder("b1").await;
    let poller = poller(&harness, "old").await;
    let listed = harness.submit().await;
    fetch(&harness, poller, 1).await;
    let unlisted = harness.submit().await;
    assert!((i64::from(SILENCE) - lease(&harness).await) < 10);
    let swept = harness.store().sweep_pollers().await.unwrap();
    assert_eq!((swept.returned.len(), swept.rerouted), (0, 0), "it polls");

    run_out(&harness).await;
    harness
        .database
        .execute("update legacy_pollers set alive_until = now() - interval '1 second'")
        .await;
    let swept = harness.store().sweep_pollers().await.unwrap();
    assert_eq!(swept.returned, [(listed, "old".to_owned())]);
    assert_eq!(swept.rerouted, 1);
    harness
        .assert_states(listed, TaskState::Waiting, AttemptState::Revoked)
        .await;
    assert_eq!(harness.task(listed).await.attempts_counted, 0);
    let mut released: Vec<_> = harness.release().await.iter().map(|e| e.task_id).collect();
    released.sort();
    assert_eq!(
        released,
        [
            harness.task(listed).await.id,
            harness.task(unlisted).await.id
        ]
    );
    let late = report(&harness, poller, &[started(listed), ended(unlisted, 1)]).await;
    assert_eq!(late.ignored, [listed.0, unlisted.0]);
    assert!(late.fenced && late.updated.is_empty());
    let new = harness.submit().await;
    assert_eq!(
        fetch(&harness, poller, 10).await,
        [0; 0],
        "neither comes back, nor what came while it was silent"
    );
    assert_eq!(harness.release().await.len(), 1);
    assert_eq!(harness.task(new).await.attempts.len(), 1);
    let newer = harness.submit().await;
    assert_eq!(
        fetch(&harness, poller, 10).await,
        [newer.0],
        "it polls again"
    );
}

#[tokio::test]
async fn from_its_start_a_build_has_its_packages_times_whatever_is_polled() {
    let harness = Harness::new().await;
    harness.builder("b1").await;
    let poller = poller(&harness, "old").await;
    let build = harness
        .submit_this(&harness.new_build(&[CHROOT, OTHER_CHROOT]))
        .await;
    fetch(&harness, poller, 10).await;
    assert_eq!(
        report(&harness, poller, &[started(build)]).await.updated,
        [build.0]
    );
    let whole = i64::from(2 * 1800 + MARGIN);
    assert!((whole - lease(&harness).await).abs() < 10);
    let task = harness.task(build).await;
    assert_eq!(task.state, TaskState::Running);
    assert_eq!(task.started_at.unwrap().timestamp(), 1_351_157_544);
    assert_eq!(fetch(&harness, poller, 10).await, [0; 0]);
    let again = report(&harness, poller, &[started(build)]).await;
    assert_eq!(again.updated, [build.0]);
    harness
        .database
        .execute("update attempts set lease_until = lease_until - interval '1 hour'")
        .await;
    fetch(&harness, poller, 10).await;
    report(&harness, poller, &[started(build)]).await;
    assert!(lease(&harness).await <= whole - 3600, "nothing renews it");

    run_out(&harness).await;
    assert_eq!(harness.sweep().await.lost, [], "not a builder's lease");
    harness.store().sweep_pollers().await.unwrap();
    harness
        .assert_states(build, TaskState::Waiting, AttemptState::Lost)
        .await;
    assert_eq!(harness.task(build).await.attempts_counted, 1);
    assert_eq!(
        report(&harness, poller, &[ended(build, 1)]).await.ignored,
        [build.0]
    );
    harness.skip_delays().await;
    assert_eq!(
        harness.release().await.len(),
        1,
        "the queue has it (one builder, one architecture)"
    );
}

#[tokio::test]
async fn a_cancel_ends_what_a_poller_has_at_once() {
    let harness = Harness::new().await;
    let poller = poller(&harness, "old").await;
    let [listed, begun, waiting] = [
        harness.submit().await,
        harness.submit().await,
        harness.submit().await,
    ];
    fetch(&harness, poller, 2).await;
    report(&harness, poller, &[started(begun)]).await;
    for build in [listed, begun, waiting] {
        harness.cancel(build).await;
        assert_eq!(harness.task(build).await.state, TaskState::Cancelled);
    }
    assert_eq!(fetch(&harness, poller, 10).await, [0; 0]);
    let late = report(&harness, poller, &[started(listed), ended(begun, 1)]).await;
    assert_eq!(late.ignored, [listed.0, begun.0]);
    assert_eq!(harness.task(begun).await.state, TaskState::Cancelled);
    assert_eq!(harness.store().sweep_pollers().await.unwrap().returned, []);
}

#[tokio::test]
async fn a_removed_poller_loses_everything() {
    let harness = Harness::new().await;
    let new = new_poller("old");
    let poller = add(&harness, &new).await;
    let begun = harness.submit().await;
    fetch(&harness, poller, 1).await;
    report(&harness, poller, &[started(begun)]).await;
    let waiting = harness.submit().await;
    assert!(harness.store().remove_poller(&new.name).await.unwrap());
    assert!(!harness.store().remove_poller(&new.name).await.unwrap());
    assert_eq!(
        harness
            .store()
            .poller_by_token(&new.token_hash)
            .await
            .unwrap(),
        None
    );
    let swept = harness.store().sweep_pollers().await.unwrap();
    assert_eq!((swept.returned.len(), swept.rerouted), (1, 1));
    harness
        .assert_states(begun, TaskState::Waiting, AttemptState::Lost)
        .await;
    assert_eq!(harness.task(waiting).await.state, TaskState::Waiting);
    let other = NewPoller {
        token_hash: Token::new("t").hash(),
        secret_hash: Token::new("s").hash(),
        ..new
    };
    assert!(
        harness.store().add_poller(&other).await.unwrap(),
        "the name is free"
    );
}

#[tokio::test]
async fn a_gap_of_ours_is_not_a_pollers_silence() {
    let harness = Harness::new().await;
    let poller = poller(&harness, "old").await;
    harness.submit().await;
    fetch(&harness, poller, 10).await;
    harness.submit().await;
    run_out(&harness).await;
    harness
        .database
        .execute("update legacy_pollers set alive_until = now() - interval '1 second'")
        .await;
    harness
        .database
        .execute("update sweeper_ticks set ticked_at = now() - interval '1 minute'")
        .await;
    harness.sweep_after_gap().await;
    let swept = harness.store().sweep_pollers().await.unwrap();
    assert_eq!((swept.returned.len(), swept.rerouted), (0, 0));
}
