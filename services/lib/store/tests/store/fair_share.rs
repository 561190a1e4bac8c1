//! Fair share between owners and priorities, and the wait reason of tasks that were not selected.

use millrace_domain::{Priority, TaskId};
use millrace_store::{NewBuild, ProjectRow, Release, ReleaseConfig, WaitFacts};

use crate::harness::{CHROOT, Harness};

/// Room for four: the window of one builder.
async fn release(harness: &Harness) -> Vec<i64> {
    let release = release_all(harness).await;
    release.entries.iter().map(|e| e.task_id.0).collect()
}

async fn release_all(harness: &Harness) -> Release {
    let config = ReleaseConfig::default();
    let store = harness.store();
    let released = store.release_tasks(&config, |_| serde_json::Value::Null);
    released.await.unwrap()
}

fn of(harness: &Harness, project: &ProjectRow, priority: Priority) -> NewBuild {
    NewBuild {
        project: project.clone(),
        priority,
        ..harness.new_build(&[CHROOT])
    }
}

async fn wait(harness: &Harness, task: i64) -> WaitFacts {
    let waits = harness
        .store()
        .wait_facts(&[TaskId(task)], 100)
        .await
        .unwrap();
    waits.into_iter().next().unwrap()
}

#[tokio::test]
async fn owners_take_turns_however_many_tasks_one_has() {
    let harness = Harness::new().await;
    for _ in 0..30 {
        harness.submit().await;
    }
    let other = harness.project_of("other").await;
    for _ in 0..2 {
        harness
            .submit_this(&of(&harness, &other, Priority::Normal))
            .await;
    }
    assert_eq!(
        wait(&harness, 31).await.ahead,
        1,
        "behind the first of the other owner"
    );
    assert_eq!(wait(&harness, 32).await.ahead, 3);
    assert_eq!(wait(&harness, 30).await.ahead, 31);
    harness.builder("b1").await;
    assert_eq!(release(&harness).await, [1, 31, 2, 32]);
}

#[tokio::test]
async fn an_owner_with_work_under_way_stands_back() {
    let harness = Harness::new().await;
    for _ in 0..10 {
        harness.submit().await;
    }
    harness.builder("b1").await;
    assert_eq!(release(&harness).await, [1, 2, 3, 4]);
    let other = harness.project_of("other").await;
    for _ in 0..3 {
        harness
            .submit_this(&of(&harness, &other, Priority::Normal))
            .await;
    }
    assert_eq!(wait(&harness, 11).await.ahead, 0);
    assert_eq!(wait(&harness, 5).await.ahead, 3);
    harness.builder("b2").await;
    assert_eq!(release(&harness).await, [11, 12, 13, 5]);
}

#[tokio::test]
async fn a_higher_priority_goes_first_and_waiting_raises_it() {
    let harness = Harness::new().await;
    let main = harness.project.clone();
    for priority in [
        Priority::Background,
        Priority::Normal,
        Priority::High,
        Priority::Background,
    ] {
        let id = harness.submit_this(&of(&harness, &main, priority)).await;
        assert_eq!(harness.build(id).await.priority, priority);
    }
    assert_eq!(wait(&harness, 1).await.ahead, 2);
    harness
        .database
        .execute("update tasks set created_at = now() - interval '2 hours' where id = 1")
        .await;
    harness.builder("b1").await;
    assert_eq!(release(&harness).await, [1, 3, 2, 4]);
}

#[tokio::test]
async fn an_owner_has_no_more_under_way_than_it_may() {
    let harness = Harness::new().await;
    for _ in 0..5 {
        harness.submit().await;
    }
    harness
        .database
        .execute("update accounts set max_running = 2")
        .await;
    harness.builder("b1").await;
    let first = release_all(&harness).await;
    assert_eq!((first.entries.len(), first.held_back), (2, true));
    let second = release_all(&harness).await;
    assert_eq!((second.entries.len(), second.held_back), (0, true));
    let wait = wait(&harness, 3).await;
    assert_eq!((wait.owner_active, wait.owner_limit), (2, 2));
}

#[tokio::test]
async fn a_wait_names_the_largest_builder_and_the_delay() {
    let harness = Harness::new().await;
    harness.submit().await;
    assert_eq!(wait(&harness, 1).await.largest_mib, None);
    harness.builder("b1").await;
    harness
        .database
        .execute("update tasks set not_before = now() + interval '1 hour'")
        .await;
    let wait = wait(&harness, 1).await;
    assert_eq!(wait.largest_mib, Some(8192));
    assert!(wait.not_before.is_some());
    assert!(!wait.is_offered);
}

#[tokio::test]
async fn what_does_not_wait_has_no_reason() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    harness.running(builder).await;
    assert_eq!(
        harness.store().wait_facts(&[TaskId(1)], 100).await.unwrap(),
        []
    );
}

#[tokio::test]
async fn what_is_released_says_when_the_last_builder_that_could_take_it_is_gone() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    harness.submit().await;
    harness.offer().await;
    let released = wait(&harness, 1).await;
    assert!(released.is_queued, "{released:?}");
    assert_eq!(released.largest_mib, Some(8192));
    harness.let_fall_silent(builder, 60).await;
    let deserted = wait(&harness, 1).await;
    assert!(deserted.is_queued);
    assert_eq!(deserted.largest_mib, None);
}
