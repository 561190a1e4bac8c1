//! Whose turn it is, and what those are told whose turn it is not.

use millrace_domain::{Priority, TaskId};
use millrace_store::{NewBuild, ProjectRow, Release, ReleaseConfig, WaitFacts};

use crate::house::{CHROOT, House};

/// Room for four: the window of one builder.
async fn release(house: &House) -> Vec<i64> {
    let release = release_all(house).await;
    release.entries.iter().map(|e| e.task_id.0).collect()
}

async fn release_all(house: &House) -> Release {
    let config = ReleaseConfig::default();
    let store = house.store();
    let released = store.release_tasks(&config, |_| serde_json::Value::Null);
    released.await.unwrap()
}

fn of(house: &House, project: &ProjectRow, priority: Priority) -> NewBuild {
    NewBuild {
        project: project.clone(),
        priority,
        ..house.new_build(&[CHROOT])
    }
}

async fn wait(house: &House, task: i64) -> WaitFacts {
    let waits = house
        .store()
        .wait_facts(&[TaskId(task)], 100)
        .await
        .unwrap();
    waits.into_iter().next().unwrap()
}

#[tokio::test]
async fn owners_take_turns_however_many_tasks_one_has() {
    let house = House::new().await;
    for _ in 0..30 {
        house.submit().await;
    }
    let other = house.project_of("other").await;
    for _ in 0..2 {
        house
            .submit_this(&of(&house, &other, Priority::Normal))
            .await;
    }
    assert_eq!(
        wait(&house, 31).await.ahead,
        1,
        "behind the first of the other owner"
    );
    assert_eq!(wait(&house, 32).await.ahead, 3);
    assert_eq!(wait(&house, 30).await.ahead, 31);
    house.builder("b1").await;
    assert_eq!(release(&house).await, [1, 31, 2, 32]);
}

#[tokio::test]
async fn an_owner_with_work_under_way_stands_back() {
    let house = House::new().await;
    for _ in 0..10 {
        house.submit().await;
    }
    house.builder("b1").await;
    assert_eq!(release(&house).await, [1, 2, 3, 4]);
    let other = house.project_of("other").await;
    for _ in 0..3 {
        house
            .submit_this(&of(&house, &other, Priority::Normal))
            .await;
    }
    assert_eq!(wait(&house, 11).await.ahead, 0);
    assert_eq!(wait(&house, 5).await.ahead, 3);
    house.builder("b2").await;
    assert_eq!(release(&house).await, [11, 12, 13, 5]);
}

#[tokio::test]
async fn a_higher_priority_goes_first_and_waiting_raises_it() {
    let house = House::new().await;
    let main = house.project.clone();
    for priority in [
        Priority::Background,
        Priority::Normal,
        Priority::High,
        Priority::Background,
    ] {
        let id = house.submit_this(&of(&house, &main, priority)).await;
        assert_eq!(house.build(id).await.priority, priority);
    }
    assert_eq!(wait(&house, 1).await.ahead, 2);
    house
        .database
        .execute("update tasks set created_at = now() - interval '2 hours' where id = 1")
        .await;
    house.builder("b1").await;
    assert_eq!(release(&house).await, [1, 3, 2, 4]);
}

#[tokio::test]
async fn an_owner_has_no_more_under_way_than_it_may() {
    let house = House::new().await;
    for _ in 0..5 {
        house.submit().await;
    }
    house
        .database
        .execute("update accounts set max_running = 2")
        .await;
    house.builder("b1").await;
    let first = release_all(&house).await;
    assert_eq!((first.entries.len(), first.held_back), (2, true));
    let second = release_all(&house).await;
    assert_eq!((second.entries.len(), second.held_back), (0, true));
    let wait = wait(&house, 3).await;
    assert_eq!((wait.owner_active, wait.owner_limit), (2, 2));
}

#[tokio::test]
async fn a_wait_names_the_largest_builder_and_the_delay() {
    let house = House::new().await;
    house.submit().await;
    assert_eq!(wait(&house, 1).await.largest_mib, None);
    house.builder("b1").await;
    house
        .database
        .execute("update tasks set not_before = now() + interval '1 hour'")
        .await;
    let wait = wait(&house, 1).await;
    assert_eq!(wait.largest_mib, Some(8192));
    assert!(wait.not_before.is_some());
    assert!(!wait.is_offered);
}

#[tokio::test]
async fn what_does_not_wait_has_no_reason() {
    let house = House::new().await;
    let builder = house.builder("b1").await;
    house.running(builder).await;
    assert_eq!(
        house.store().wait_facts(&[TaskId(1)], 100).await.unwrap(),
        []
    );
}

#[tokio::test]
async fn what_is_released_says_when_the_last_builder_that_could_take_it_is_gone() {
    let house = House::new().await;
    let builder = house.builder("b1").await;
    house.submit().await;
    house.offer().await;
    let released = wait(&house, 1).await;
    assert!(released.is_queued, "{released:?}");
    assert_eq!(released.largest_mib, Some(8192));
    house.let_fall_silent(builder, 60).await;
    let deserted = wait(&house, 1).await;
    assert!(deserted.is_queued);
    assert_eq!(deserted.largest_mib, None);
}
