//! What pollers lose: by silence, by time, by a cancel, by their end.

use millrace_domain::{AttemptState, TaskState, Token};
use millrace_store::NewPoller;

use crate::house::{CHROOT, House, OTHER_CHROOT};
use crate::pollers::{
    MARGIN, SILENCE, add, ended, fetch, lease, new_poller, poller, report, started,
};

async fn run_out(house: &House) {
    let sql =
        "update attempts set lease_until = now() - interval '1 second' where state = 'claimed'";
    house.database.execute(sql).await;
}

#[tokio::test]
async fn silence_gives_what_was_not_begun_to_the_queue_and_late_words_are_ignored() {
    let house = House::new().await;
    house.builder("b1").await;
    let poller = poller(&house, "old").await;
    let listed = house.submit().await;
    fetch(&house, poller, 1).await;
    let unlisted = house.submit().await;
    assert!((i64::from(SILENCE) - lease(&house).await) < 10);
    let swept = house.store().sweep_pollers().await.unwrap();
    assert_eq!((swept.returned.len(), swept.rerouted), (0, 0), "it polls");

    run_out(&house).await;
    house
        .database
        .execute("update legacy_pollers set alive_until = now() - interval '1 second'")
        .await;
    let swept = house.store().sweep_pollers().await.unwrap();
    assert_eq!(swept.returned, [(listed, "old".to_owned())]);
    assert_eq!(swept.rerouted, 1);
    house
        .assert_states(listed, TaskState::Waiting, AttemptState::Revoked)
        .await;
    assert_eq!(house.task(listed).await.attempts_counted, 0);
    let mut released: Vec<_> = house.release().await.iter().map(|e| e.task_id).collect();
    released.sort();
    assert_eq!(
        released,
        [house.task(listed).await.id, house.task(unlisted).await.id]
    );
    let late = report(&house, poller, &[started(listed), ended(unlisted, 1)]).await;
    assert_eq!(late.ignored, [listed.0, unlisted.0]);
    assert!(late.fenced && late.updated.is_empty());
    let new = house.submit().await;
    assert_eq!(
        fetch(&house, poller, 10).await,
        [0; 0],
        "neither comes back, nor what came while it was silent"
    );
    assert_eq!(house.release().await.len(), 1);
    assert_eq!(house.task(new).await.attempts.len(), 1);
    let newer = house.submit().await;
    assert_eq!(fetch(&house, poller, 10).await, [newer.0], "it polls again");
}

#[tokio::test]
async fn from_its_start_a_build_has_its_packages_times_whatever_is_polled() {
    let house = House::new().await;
    house.builder("b1").await;
    let poller = poller(&house, "old").await;
    let build = house
        .submit_this(&house.new_build(&[CHROOT, OTHER_CHROOT]))
        .await;
    fetch(&house, poller, 10).await;
    assert_eq!(
        report(&house, poller, &[started(build)]).await.updated,
        [build.0]
    );
    let whole = i64::from(2 * 1800 + MARGIN);
    assert!((whole - lease(&house).await).abs() < 10);
    let task = house.task(build).await;
    assert_eq!(task.state, TaskState::Running);
    assert_eq!(task.started_at.unwrap().timestamp(), 1_351_157_544);
    assert_eq!(fetch(&house, poller, 10).await, [0; 0]);
    let again = report(&house, poller, &[started(build)]).await;
    assert_eq!(again.updated, [build.0]);
    house
        .database
        .execute("update attempts set lease_until = lease_until - interval '1 hour'")
        .await;
    fetch(&house, poller, 10).await;
    report(&house, poller, &[started(build)]).await;
    assert!(lease(&house).await <= whole - 3600, "nothing renews it");

    run_out(&house).await;
    assert_eq!(house.sweep().await.lost, [], "not a builder's lease");
    house.store().sweep_pollers().await.unwrap();
    house
        .assert_states(build, TaskState::Waiting, AttemptState::Lost)
        .await;
    assert_eq!(house.task(build).await.attempts_counted, 1);
    assert_eq!(
        report(&house, poller, &[ended(build, 1)]).await.ignored,
        [build.0]
    );
    house.skip_delays().await;
    assert_eq!(
        house.release().await.len(),
        1,
        "the queue has it (one builder, one architecture)"
    );
}

#[tokio::test]
async fn a_cancel_ends_what_a_poller_has_at_once() {
    let house = House::new().await;
    let poller = poller(&house, "old").await;
    let [listed, begun, waiting] = [
        house.submit().await,
        house.submit().await,
        house.submit().await,
    ];
    fetch(&house, poller, 2).await;
    report(&house, poller, &[started(begun)]).await;
    for build in [listed, begun, waiting] {
        house.cancel(build).await;
        assert_eq!(house.task(build).await.state, TaskState::Cancelled);
    }
    assert_eq!(fetch(&house, poller, 10).await, [0; 0]);
    let late = report(&house, poller, &[started(listed), ended(begun, 1)]).await;
    assert_eq!(late.ignored, [listed.0, begun.0]);
    assert_eq!(house.task(begun).await.state, TaskState::Cancelled);
    assert_eq!(house.store().sweep_pollers().await.unwrap().returned, []);
}

#[tokio::test]
async fn a_removed_poller_loses_everything() {
    let house = House::new().await;
    let new = new_poller("old");
    let poller = add(&house, &new).await;
    let begun = house.submit().await;
    fetch(&house, poller, 1).await;
    report(&house, poller, &[started(begun)]).await;
    let waiting = house.submit().await;
    assert!(house.store().remove_poller(&new.name).await.unwrap());
    assert!(!house.store().remove_poller(&new.name).await.unwrap());
    assert_eq!(
        house
            .store()
            .poller_by_token(&new.token_hash)
            .await
            .unwrap(),
        None
    );
    let swept = house.store().sweep_pollers().await.unwrap();
    assert_eq!((swept.returned.len(), swept.rerouted), (1, 1));
    house
        .assert_states(begun, TaskState::Waiting, AttemptState::Lost)
        .await;
    assert_eq!(house.task(waiting).await.state, TaskState::Waiting);
    let other = NewPoller {
        token_hash: Token::new("t").hash(),
        secret_hash: Token::new("s").hash(),
        ..new
    };
    assert!(
        house.store().add_poller(&other).await.unwrap(),
        "the name is free"
    );
}

#[tokio::test]
async fn a_gap_of_ours_is_not_a_pollers_silence() {
    let house = House::new().await;
    let poller = poller(&house, "old").await;
    house.submit().await;
    fetch(&house, poller, 10).await;
    house.submit().await;
    run_out(&house).await;
    house
        .database
        .execute("update legacy_pollers set alive_until = now() - interval '1 second'")
        .await;
    house
        .database
        .execute("update sweeper_ticks set ticked_at = now() - interval '1 minute'")
        .await;
    house.sweep_after_gap().await;
    let swept = house.store().sweep_pollers().await.unwrap();
    assert_eq!((swept.returned.len(), swept.rerouted), (0, 0));
}
