//! Builders that are kept free for large tasks.

use millrace_domain::{BuildId, BuilderId, OutcomeKind, Priority, TaskId};
use millrace_store::{
    CancelResult, ClaimOutcome, NewBuild, NewBuilder, ReleaseConfig, Reservation,
    ReservationChanges, ReserveConfig, WaitFacts,
};

use crate::harness::{CHROOT, Claimed, Harness, new_builder};

const AFTER: u32 = 300;

async fn reserve(harness: &Harness) -> ReservationChanges {
    let config = ReserveConfig {
        after_seconds: AFTER,
        owner_running: 100,
    };
    harness.store().reserve(&config).await.unwrap()
}

fn large(harness: &Harness) -> NewBuild {
    let mut new = harness.new_build(&[CHROOT]);
    new.limits.memory_mib = 8192;
    "8g".clone_into(&mut new.memory_class);
    new
}

/// All that waits has waited long enough.
async fn let_time_pass(harness: &Harness) {
    let sql = format!("update tasks set waiting_since = now() - interval '{AFTER} seconds'");
    harness.database.execute(&sql).await;
}

/// A builder with a small task, and a large one that has waited; the ids of the large task.
async fn crowded(harness: &Harness, builder: BuilderId) -> (Claimed, TaskId, BuildId) {
    let (_, small) = harness.running(builder).await;
    let build = harness.submit_this(&large(harness)).await;
    let_time_pass(harness).await;
    (small, harness.task(build).await.id, build)
}

async fn released(harness: &Harness) -> Vec<i64> {
    let config = ReleaseConfig::default();
    let release = harness
        .store()
        .release_tasks(&config, |_| serde_json::Value::Null);
    let entries = release.await.unwrap().entries;
    entries.iter().map(|e| e.task_id.0).collect()
}

async fn kept_free(harness: &Harness, builder: BuilderId) -> Option<u32> {
    harness.store().kept_free(builder).await.unwrap()
}

async fn wait(harness: &Harness, task: TaskId) -> WaitFacts {
    harness
        .store()
        .wait_facts(&[task], 100)
        .await
        .unwrap()
        .remove(0)
}

fn made(builder_id: BuilderId, task_id: TaskId) -> Vec<Reservation> {
    vec![Reservation {
        builder_id,
        task_id,
    }]
}

#[tokio::test]
async fn a_builder_is_kept_free_until_the_large_task_fits_and_goes_first() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (small, task, _) = crowded(&harness, builder).await;
    harness.submit().await;
    assert_eq!(reserve(&harness).await.made, made(builder, task));
    assert_eq!(
        reserve(&harness).await,
        ReservationChanges::default(),
        "it holds"
    );
    assert_eq!(kept_free(&harness, builder).await, Some(8192));
    assert!(released(&harness).await.is_empty(), "small ones stand back");
    let told = wait(&harness, task).await;
    assert_eq!(told.kept_builder.as_deref(), Some("b1"));
    let told = wait(&harness, TaskId(3)).await;
    assert_eq!(told.kept_for_other, Some(("b1".to_owned(), 8192)));

    harness.accept(small, OutcomeKind::Succeeded).await;
    assert_eq!(released(&harness).await, [task.0], "as soon as it fits");
    let attempt = harness.publish_one().await;
    assert_eq!(kept_free(&harness, builder).await, Some(8192));
    harness.claim(builder, attempt).await;
    assert_eq!(kept_free(&harness, builder).await, None);
    assert_eq!(reserve(&harness).await.ended, [builder]);
}

#[tokio::test]
async fn only_a_task_that_waited_and_is_passed_over_gets_a_builder() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (_, _, build) = crowded(&harness, builder).await;
    harness
        .database
        .execute("update tasks set waiting_since = now()")
        .await;
    assert_eq!(
        reserve(&harness).await,
        ReservationChanges::default(),
        "not yet"
    );
    harness.cancel(build).await;
    // All the room is taken by tasks of one size: turns decide.
    for _ in 0..3 {
        harness.running(builder).await;
    }
    harness.submit().await;
    let_time_pass(&harness).await;
    assert_eq!(reserve(&harness).await, ReservationChanges::default());
    // None is large enough for this one.
    let mut huge = large(&harness);
    huge.limits.memory_mib = 8193;
    harness.submit_this(&huge).await;
    let_time_pass(&harness).await;
    assert_eq!(reserve(&harness).await, ReservationChanges::default());
}

#[tokio::test]
async fn frontends_at_once_make_one_reservation() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    crowded(&harness, builder).await;
    harness.submit_this(&large(&harness)).await;
    let_time_pass(&harness).await;
    let config = ReserveConfig {
        after_seconds: AFTER,
        owner_running: 100,
    };
    let calls = (0..8).map(|_| {
        let store = harness.store().clone();
        tokio::spawn(async move { store.reserve(&config).await.unwrap().made.len() })
    });
    let mut reservations = 0;
    for call in calls.collect::<Vec<_>>() {
        reservations += call.await.unwrap();
    }
    assert_eq!(reservations, 1);
}

#[tokio::test]
async fn a_builder_that_goes_away_is_replaced_by_another() {
    let harness = Harness::new().await;
    let builders = [harness.builder("b1").await, harness.builder("b2").await];
    for builder in builders {
        harness.running(builder).await;
    }
    let build = harness.submit_this(&large(&harness)).await;
    let_time_pass(&harness).await;
    let task = harness.task(build).await.id;
    let first = reserve(&harness).await.made[0].builder_id;
    let sql = format!(
        "update builders set last_seen_at = now() - interval '1 minute' where id = '{first}'"
    );
    harness.database.execute(&sql).await;
    assert_eq!(kept_free(&harness, first).await, None);
    let reserved = reserve(&harness).await;
    let second = builders.into_iter().find(|b| *b != first).unwrap();
    assert_eq!(reserved.ended, [first]);
    assert_eq!(reserved.made, made(second, task));
}

#[tokio::test]
async fn a_cancel_ends_the_reservation_and_the_builder_rests() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (_, task, build) = crowded(&harness, builder).await;
    assert_eq!(reserve(&harness).await.made, made(builder, task));
    let cancelled = harness.cancel(build).await;
    assert!(matches!(cancelled, CancelResult::Cancelled { .. }));
    assert_eq!(kept_free(&harness, builder).await, None, "at once");
    let next = harness.submit_this(&large(&harness)).await;
    let_time_pass(&harness).await;
    let reserved = reserve(&harness).await;
    assert_eq!((reserved.ended, reserved.made), (vec![builder], vec![]));
    let next = harness.task(next).await.id;
    assert_eq!(
        reserve(&harness).await.made,
        [],
        "small ones get their time"
    );
    harness
        .database
        .execute("update reservations set ended_at = now() - interval '301 seconds'")
        .await;
    assert_eq!(reserve(&harness).await.made, made(builder, next));
}

#[tokio::test]
async fn what_drains_on_a_shared_engine_is_kept_from_its_neighbours() {
    let harness = Harness::new().await;
    let shared = |name: &str| NewBuilder {
        engine_id: "shared".to_owned(),
        ..new_builder(name)
    };
    let first = harness.enrol(shared("b1")).await;
    let second = harness.enrol(shared("b2")).await;
    harness.running(first).await;
    let (_, running) = harness.running(second).await;
    harness.submit().await;
    let small = harness.offer().await;
    let build = harness.submit_this(&large(&harness)).await;
    let_time_pass(&harness).await;
    let task = harness.task(build).await.id;
    assert_eq!(reserve(&harness).await.made.len(), 1);
    for builder in [first, second] {
        assert_eq!(kept_free(&harness, builder).await, Some(8192));
    }
    harness.accept(running, OutcomeKind::Succeeded).await;
    let refused = harness.try_claim(second, small, "nonce").await;
    assert_eq!(refused, ClaimOutcome::NoRoom, "that memory is kept");
    harness.skip_delays().await;
    assert!(released(&harness).await.is_empty());
    harness
        .database
        .execute("update attempts set phase = 'spooled' where state = 'claimed'")
        .await;
    assert_eq!(released(&harness).await, [task.0]);
}

#[tokio::test]
async fn what_an_engine_has_left_over_goes_on_serving_small_tasks() {
    let harness = Harness::new().await;
    let shared = |name: &str| NewBuilder {
        engine_id: "shared".to_owned(),
        engine_budget_mib: 16384,
        ..new_builder(name)
    };
    let first = harness.enrol(shared("b1")).await;
    let second = harness.enrol(shared("b2")).await;
    harness.running(first).await;
    harness.running(second).await;
    let build = harness.submit_this(&large(&harness)).await;
    harness.submit().await;
    let_time_pass(&harness).await;
    let reserved = reserve(&harness).await.made;
    assert_eq!(reserved.len(), 1);
    assert_eq!(reserved[0].task_id, harness.task(build).await.id);
    let free = if reserved[0].builder_id == first {
        second
    } else {
        first
    };
    assert_eq!(kept_free(&harness, free).await, None);
    assert_eq!(released(&harness).await, [4]);
}

#[tokio::test]
async fn a_wait_tells_when_its_task_starts() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (_, ended) = harness.running(builder).await;
    harness.accept(ended, OutcomeKind::Succeeded).await;
    harness
        .database
        .execute("update tasks set started_at = ended_at - interval '100 seconds'")
        .await;
    let priority = Priority::Normal;
    for _ in 0..4 {
        harness.running(builder).await;
    }
    harness
        .database
        .execute("update attempts set claimed_at = now() - interval '40 seconds' where state = 'claimed'")
        .await;
    for _ in 0..5 {
        let new = NewBuild {
            priority,
            ..harness.new_build(&[CHROOT])
        };
        harness.submit_this(&new).await;
    }
    let near = |found: Option<f64>, wanted: f64| {
        let found = found.unwrap();
        assert!((found - wanted).abs() < 5.0, "{found} is not {wanted}");
    };
    let first = wait(&harness, TaskId(6)).await;
    assert_eq!(first.ahead, 0);
    near(first.starts_in, 60.0);
    let fifth = wait(&harness, TaskId(10)).await;
    assert_eq!(fifth.ahead, 4);
    near(fifth.starts_in, 160.0);
}

#[tokio::test]
async fn a_task_that_was_put_back_is_out_of_the_line_until_its_time() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    harness.submit().await;
    let attempt = harness.offer().await;
    assert!(
        harness
            .store()
            .decline(builder, attempt, None, "no room")
            .await
            .unwrap()
    );
    let delayed = "select delayed::text from tasks";
    assert_eq!(
        harness.database.fetch_text(delayed).await.as_deref(),
        Some("true")
    );
    harness
        .database
        .execute("update tasks set not_before = now() + interval '1 hour'")
        .await;
    assert!(released(&harness).await.is_empty());
    harness.skip_delays().await;
    assert_eq!(released(&harness).await, [1]);
    assert_eq!(
        harness.database.fetch_text(delayed).await.as_deref(),
        Some("false")
    );
}
