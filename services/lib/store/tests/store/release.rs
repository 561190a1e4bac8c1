use std::collections::HashSet;

use millrace_domain::{AttemptState, OutcomeKind, Phase, TaskState};
use millrace_store::{NewBuilder, SourcePlace};

use crate::harness::{CHROOT, Harness, OTHER_CHROOT, new_builder, wide};

async fn submit_many(harness: &Harness, count: usize) {
    for _ in 0..count {
        harness.submit().await;
    }
}

#[tokio::test]
async fn without_a_live_builder_nothing_is_released() {
    let harness = Harness::new().await;
    harness.submit().await;
    assert!(harness.release().await.is_empty());
    harness.builder("b1").await;
    harness
        .database
        .execute("update builders set last_seen_at = now() - interval '26 seconds'")
        .await;
    assert!(harness.release().await.is_empty());
    harness
        .database
        .execute("update builders set last_seen_at = now()")
        .await;
    assert_eq!(harness.release().await.len(), 1);
}

#[tokio::test]
async fn the_oldest_tasks_are_released_first_and_twice_the_free_room_at_most() {
    let harness = Harness::new().await;
    submit_many(&harness, 20).await;
    harness.builder("b1").await;
    let released: Vec<i64> = harness
        .release()
        .await
        .iter()
        .map(|r| r.task_id.0)
        .collect();
    // Four sandboxes of 2 GiB fit into 8 GiB.
    assert_eq!(released, (1..=8).collect::<Vec<_>>());
    assert!(
        harness.release().await.is_empty(),
        "the window is full until something is claimed"
    );
}

#[tokio::test]
async fn memory_bounds_the_window_as_sandboxes_do() {
    let harness = Harness::new().await;
    submit_many(&harness, 20).await;
    let small = NewBuilder {
        memory_mib: 5000,
        ..new_builder("b1")
    };
    harness.enrol(small).await;
    assert_eq!(harness.release().await.len(), 4);
}

#[tokio::test]
async fn builders_of_one_engine_do_not_count_its_memory_twice() {
    let harness = Harness::new().await;
    submit_many(&harness, 20).await;
    for name in ["b1", "b2", "b3"] {
        let shared = NewBuilder {
            engine_id: "shared".to_owned(),
            engine_budget_mib: 4096,
            ..new_builder(name)
        };
        harness.enrol(shared).await;
    }
    assert_eq!(harness.release().await.len(), 4);
}

#[tokio::test]
async fn what_is_claimed_takes_room_until_its_results_are_safe() {
    let harness = Harness::new().await;
    submit_many(&harness, 20).await;
    let builder = harness.builder("b1").await;
    let released = harness.release().await;
    let mut claimed = Vec::new();
    for order in &released[..4] {
        claimed.push(harness.claim(builder, order.attempt_id).await);
    }
    assert!(harness.release().await.is_empty(), "no room, four on offer");
    harness.beat(claimed[0], Phase::Spooled).await;
    harness.beat(claimed[1], Phase::Reported).await;
    harness.beat(claimed[2], Phase::Collecting).await;
    // Two free sandboxes open a window of four, which the four on offer fill.
    assert!(harness.release().await.is_empty());
    harness.accept(claimed[2], OutcomeKind::Succeeded).await;
    assert_eq!(harness.release().await.len(), 2);
}

#[tokio::test]
async fn a_task_that_no_builder_could_ever_hold_does_not_stand_in_the_way() {
    let harness = Harness::new().await;
    let mut large = harness.new_build(&[CHROOT]);
    large.limits.memory_mib = 9000;
    harness.submit_this(&large).await;
    harness.submit().await;
    harness.builder("b1").await;
    let released = harness.release().await;
    assert_eq!(released.len(), 1);
    assert_eq!(released[0].task_id.0, 2);
}

#[tokio::test]
async fn only_routes_of_a_present_architecture_are_released() {
    let harness = Harness::new().await;
    let build = harness
        .submit_this(&harness.new_build(&[OTHER_CHROOT, CHROOT]))
        .await;
    harness.builder("b1").await;
    assert_eq!(harness.release().await.len(), 1);
    let build = harness.build(build).await;
    assert!(build.tasks[0].attempts.is_empty());
    assert_eq!(build.tasks[1].attempts.len(), 1);
}

#[tokio::test]
async fn an_order_holds_everything_a_builder_needs() {
    let harness = Harness::new().await;
    let new = harness.new_build(&[CHROOT]);
    let build = harness.submit_this(&new).await;
    harness.builder("b1").await;
    let mut seen = Vec::new();
    let entries = harness
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
    assert_eq!(harness.take_all().await[0], *entry);
    assert_eq!(entry.attempt_id, task.attempt_id);
    assert_eq!(entry.body, serde_json::json!({ "order": 1 }));
    assert_eq!(
        (entry.arch.as_str(), entry.memory_class.as_str()),
        ("x86_64", "2g")
    );
}

#[tokio::test]
async fn releasers_at_once_never_open_the_window_wider() {
    let harness = Harness::new().await;
    submit_many(&harness, 60).await;
    harness.builder("b1").await;
    let releasers = (0..8).map(|_| {
        let store = harness.store().clone();
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
    let harness = Harness::new().await;
    let release = async || {
        let config = wide();
        let store = harness.store();
        let released = store.release_tasks(&config, |_| serde_json::Value::Null);
        let release = released.await.unwrap();
        (release.entries.len(), release.held_back)
    };
    assert_eq!(release().await, (0, false), "nothing waits");
    submit_many(&harness, 3).await;
    assert_eq!(release().await, (0, true), "no builder lives");
    harness.builder("b1").await;
    assert_eq!(release().await, (3, false), "everything fits");
    submit_many(&harness, 10).await;
    assert_eq!(release().await, (5, true), "the window is full");
    assert_eq!(release().await, (0, true), "the window is closed");
}

#[tokio::test]
async fn an_unconfirmed_order_stays_in_the_outbox_and_its_task_waits() {
    let harness = Harness::new().await;
    let build = harness.submit().await;
    harness.builder("b1").await;
    let released = harness.release().await;
    harness
        .assert_states(build, TaskState::Waiting, AttemptState::Offered)
        .await;
    // Another relay passes over what is being published, until it is given back or its relay is taken for dead.
    let store = harness.store();
    assert_eq!(store.take_outbox(10).await.unwrap(), []);
    store.give_back_outbox(&released).await.unwrap();
    let taken = store.take_outbox(10).await.unwrap();
    assert_eq!(taken, released);
    assert_eq!(store.take_outbox(10).await.unwrap(), []);
    harness
        .database
        .execute("update outbox set free_at = free_at - interval '10 seconds'")
        .await;
    assert_eq!(store.take_outbox(10).await.unwrap(), released);
    store.confirm_published(&taken).await.unwrap();
    harness
        .assert_states(build, TaskState::Queued, AttemptState::Offered)
        .await;
    assert_eq!(harness.take_all().await, []);
}

#[tokio::test]
async fn of_a_batch_only_what_was_confirmed_is_queued() {
    let harness = Harness::new().await;
    let (first, second) = (harness.submit().await, harness.submit().await);
    harness.builder("b1").await;
    let released = harness.release().await;
    let store = harness.store();
    store.confirm_published(&released[..1]).await.unwrap();
    assert_eq!(harness.task(first).await.state, TaskState::Queued);
    assert_eq!(harness.task(second).await.state, TaskState::Waiting);
    assert_eq!(harness.publish().await, 1);
    assert_eq!(harness.task(second).await.state, TaskState::Queued);
}
