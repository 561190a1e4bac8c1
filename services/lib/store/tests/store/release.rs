use std::collections::HashSet;

use millrace_domain::{AttemptState, OutcomeKind, Phase, TaskState};
use millrace_store::{NewBuilder, SourcePlace};

use crate::house::{CHROOT, House, OTHER_CHROOT, new_builder, wide};

async fn submit_many(house: &House, count: usize) {
    for _ in 0..count {
        house.submit().await;
    }
}

#[tokio::test]
async fn without_a_live_builder_nothing_is_released() {
    let house = House::new().await;
    house.submit().await;
    assert!(house.release().await.is_empty());
    house.builder("b1").await;
    house
        .database
        .execute("update builders set last_seen_at = now() - interval '26 seconds'")
        .await;
    assert!(house.release().await.is_empty());
    house
        .database
        .execute("update builders set last_seen_at = now()")
        .await;
    assert_eq!(house.release().await.len(), 1);
}

#[tokio::test]
async fn the_oldest_tasks_are_released_first_and_twice_the_free_room_at_most() {
    let house = House::new().await;
    submit_many(&house, 20).await;
    house.builder("b1").await;
    let released: Vec<i64> = house.release().await.iter().map(|r| r.task_id.0).collect();
    // Four sandboxes of 2 GiB fit into 8 GiB.
    assert_eq!(released, (1..=8).collect::<Vec<_>>());
    assert!(
        house.release().await.is_empty(),
        "the window is full until something is claimed"
    );
}

#[tokio::test]
async fn memory_bounds_the_window_as_sandboxes_do() {
    let house = House::new().await;
    submit_many(&house, 20).await;
    let small = NewBuilder {
        memory_mib: 5000,
        ..new_builder("b1")
    };
    house.enrol(small).await;
    assert_eq!(house.release().await.len(), 4);
}

#[tokio::test]
async fn builders_of_one_engine_do_not_count_its_memory_twice() {
    let house = House::new().await;
    submit_many(&house, 20).await;
    for name in ["b1", "b2", "b3"] {
        let shared = NewBuilder {
            engine_id: "shared".to_owned(),
            engine_budget_mib: 4096,
            ..new_builder(name)
        };
        house.enrol(shared).await;
    }
    assert_eq!(house.release().await.len(), 4);
}

#[tokio::test]
async fn what_is_claimed_takes_room_until_its_results_are_safe() {
    let house = House::new().await;
    submit_many(&house, 20).await;
    let builder = house.builder("b1").await;
    let released = house.release().await;
    let mut claimed = Vec::new();
    for order in &released[..4] {
        claimed.push(house.claim(builder, order.attempt_id).await);
    }
    assert!(house.release().await.is_empty(), "no room, four on offer");
    house.beat(claimed[0], Phase::Spooled).await;
    house.beat(claimed[1], Phase::Reported).await;
    house.beat(claimed[2], Phase::Collecting).await;
    // Two free sandboxes open a window of four, which the four on offer fill.
    assert!(house.release().await.is_empty());
    house.accept(claimed[2], OutcomeKind::Succeeded).await;
    assert_eq!(house.release().await.len(), 2);
}

#[tokio::test]
async fn a_task_that_no_builder_could_ever_hold_does_not_stand_in_the_way() {
    let house = House::new().await;
    let mut large = house.new_build(&[CHROOT]);
    large.limits.memory_mib = 9000;
    house.submit_this(&large).await;
    house.submit().await;
    house.builder("b1").await;
    let released = house.release().await;
    assert_eq!(released.len(), 1);
    assert_eq!(released[0].task_id.0, 2);
}

#[tokio::test]
async fn only_routes_of_a_present_architecture_are_released() {
    let house = House::new().await;
    let build = house
        .submit_this(&house.new_build(&[OTHER_CHROOT, CHROOT]))
        .await;
    house.builder("b1").await;
    assert_eq!(house.release().await.len(), 1);
    let build = house.build(build).await;
    assert!(build.tasks[0].attempts.is_empty());
    assert_eq!(build.tasks[1].attempts.len(), 1);
}

#[tokio::test]
async fn an_order_holds_everything_a_builder_needs() {
    let house = House::new().await;
    let new = house.new_build(&[CHROOT]);
    let build = house.submit_this(&new).await;
    house.builder("b1").await;
    let mut seen = Vec::new();
    let entries = house
        .store()
        .release_tasks(&wide(), |task| {
            seen.push(task.clone());
            serde_json::json!({ "order": task.attempt_number })
        })
        .await
        .unwrap()
        .entries;
    let task = &seen[0];
    assert_eq!((task.build_id, task.attempt_number), (build, 1));
    assert_eq!(task.chroot.image, format!("image/{CHROOT}"));
    assert_eq!(task.limits, new.limits);
    assert_eq!(task.repositories, new.repositories);
    assert_eq!(task.memory_class, "2g");
    assert!(
        matches!(&task.sources[0].place, SourcePlace::Url(url) if url.as_str().starts_with("http://source/"))
    );
    let entry = &entries[0];
    assert_eq!(house.take_all().await[0], *entry);
    assert_eq!(entry.attempt_id, task.attempt_id);
    assert_eq!(entry.body, serde_json::json!({ "order": 1 }));
    assert_eq!(
        (entry.arch.as_str(), entry.memory_class.as_str()),
        ("x86_64", "2g")
    );
}

#[tokio::test]
async fn releasers_at_once_never_open_the_window_wider() {
    let house = House::new().await;
    submit_many(&house, 60).await;
    house.builder("b1").await;
    let releasers = (0..8).map(|_| {
        let store = house.store().clone();
        tokio::spawn(async move {
            let mut taken = Vec::new();
            for _ in 0..5 {
                let released = store
                    .release_tasks(&wide(), |_| serde_json::Value::Null)
                    .await
                    .unwrap();
                taken.extend(released.entries.iter().map(|r| r.task_id));
            }
            taken
        })
    });
    let mut tasks = Vec::new();
    for releaser in releasers.collect::<Vec<_>>() {
        tasks.extend(releaser.await.unwrap());
    }
    assert_eq!(tasks.len(), 8);
    assert_eq!(tasks.iter().collect::<HashSet<_>>().len(), 8);
}

#[tokio::test]
async fn a_release_says_whether_tasks_wait_for_room() {
    let house = House::new().await;
    let release = async || {
        let config = wide();
        let store = house.store();
        let released = store.release_tasks(&config, |_| serde_json::Value::Null);
        let release = released.await.unwrap();
        (release.entries.len(), release.held_back)
    };
    assert_eq!(release().await, (0, false), "nothing waits");
    submit_many(&house, 3).await;
    assert_eq!(release().await, (0, true), "no builder lives");
    house.builder("b1").await;
    assert_eq!(release().await, (3, false), "everything fits");
    submit_many(&house, 10).await;
    assert_eq!(release().await, (5, true), "the window is full");
    assert_eq!(release().await, (0, true), "the window is closed");
}

#[tokio::test]
async fn an_unconfirmed_order_stays_in_the_outbox_and_its_task_waits() {
    let house = House::new().await;
    let build = house.submit().await;
    house.builder("b1").await;
    let released = house.release().await;
    house
        .assert_states(build, TaskState::Waiting, AttemptState::Offered)
        .await;
    // Another relay passes over what is being published, until it is given back or its relay is taken for dead.
    let store = house.store();
    assert_eq!(store.take_outbox(10).await.unwrap(), []);
    store.give_back_outbox(&released).await.unwrap();
    let taken = store.take_outbox(10).await.unwrap();
    assert_eq!(taken, released);
    assert_eq!(store.take_outbox(10).await.unwrap(), []);
    house
        .database
        .execute("update outbox set free_at = free_at - interval '10 seconds'")
        .await;
    assert_eq!(store.take_outbox(10).await.unwrap(), released);
    store.confirm_published(&taken).await.unwrap();
    house
        .assert_states(build, TaskState::Queued, AttemptState::Offered)
        .await;
    assert_eq!(house.take_all().await, []);
}

#[tokio::test]
async fn of_a_batch_only_what_was_confirmed_is_queued() {
    let house = House::new().await;
    let (first, second) = (house.submit().await, house.submit().await);
    house.builder("b1").await;
    let released = house.release().await;
    let store = house.store();
    store.confirm_published(&released[..1]).await.unwrap();
    assert_eq!(house.task(first).await.state, TaskState::Queued);
    assert_eq!(house.task(second).await.state, TaskState::Waiting);
    assert_eq!(house.publish().await, 1);
    assert_eq!(house.task(second).await.state, TaskState::Queued);
}
