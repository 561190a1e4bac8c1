//! Fair share among more owners, or older tasks, than one scan reads.

use std::collections::HashMap;

use millrace_domain::Priority;
use millrace_store::{Backlog, NewBuild, NewBuilder, ReleaseConfig};

use crate::harness::{CHROOT, Harness, new_builder};

const OWNERS: u32 = 300;

fn backlog(tasks: u32, owners: u32) -> Backlog<'static> {
    Backlog {
        tasks,
        owners,
        chroot: CHROOT,
        needs: &[(2048, "2g")],
        priorities: &[Priority::Normal],
    }
}

/// Room for four: the window of one builder.
async fn release(harness: &Harness) -> Vec<i64> {
    let config = ReleaseConfig::default();
    let store = harness.store();
    let released = store.release_tasks(&config, |_| serde_json::Value::Null);
    let entries = released.await.unwrap().entries;
    entries.iter().map(|e| e.task_id.0).collect()
}

async fn let_tasks_age(harness: &Harness, hours: u32) {
    let sql = format!(
        "update tasks set created_at = created_at - interval '{hours} hours' where state = 'waiting'"
    );
    harness.database.execute(&sql).await;
}

async fn submit_for(harness: &Harness, owner: &str, priority: Priority) -> i64 {
    let project = harness.project_of(owner).await;
    let new = NewBuild {
        project,
        priority,
        ..harness.new_build(&[CHROOT])
    };
    let build = harness.submit_this(&new).await;
    harness.task(build).await.id.0
}

#[tokio::test]
async fn an_owners_old_backlog_does_not_hold_back_what_another_submits() {
    let harness = Harness::new().await;
    harness.database.add_backlog(&backlog(100, 1)).await;
    let_tasks_age(&harness, 5).await;
    harness.builder("b1").await;
    assert_eq!(release(&harness).await.len(), 4);
    let new = submit_for(&harness, "other", Priority::Normal).await;
    harness.builder("b2").await;
    assert_eq!(release(&harness).await[0], new);
}

#[tokio::test]
async fn whoever_has_nothing_under_way_gets_past_a_stream_of_high_priority_in_time() {
    let harness = Harness::new().await;
    let starved = submit_for(&harness, "patient", Priority::Background).await;
    let_tasks_age(&harness, 2).await;
    harness
        .database
        .add_backlog(&Backlog {
            priorities: &[Priority::High],
            ..backlog(100, 2)
        })
        .await;
    harness.builder("b1").await;
    assert!(release(&harness).await.contains(&starved));
}

#[tokio::test]
async fn of_many_owners_each_gets_its_turn_before_any_gets_a_second_one() {
    let harness = Harness::new().await;
    harness
        .database
        .add_backlog(&backlog(3 * OWNERS, OWNERS))
        .await;
    harness.builder("b1").await;
    let mut turns: HashMap<i64, u32> = HashMap::new();
    for _ in 0..OWNERS / 4 {
        let released = release(&harness).await;
        assert_eq!(released.len(), 4);
        for task in released {
            // Owners follow each other in the backlog.
            *turns.entry((task - 1) % i64::from(OWNERS)).or_default() += 1;
        }
        harness.database.finish_released().await;
    }
    assert_eq!(turns.len(), OWNERS as usize);
    assert!(turns.values().all(|count| *count == 1), "{turns:?}");
}

#[tokio::test]
async fn of_many_owners_the_one_that_waited_too_long_is_found_behind_higher_priorities() {
    let harness = Harness::new().await;
    harness.database.add_backlog(&backlog(300, 300)).await;
    // Old ones of three owners in the midst.
    let sql =
        "update tasks set created_at = created_at - interval '2 hours' where id in (100, 200, 290)";
    harness.database.execute(sql).await;
    harness.builder("b1").await;
    let mut looks = 0;
    let mut found = Vec::new();
    while found.len() < 3 {
        looks += 1;
        assert!(looks < 60, "only {found:?} were found");
        let high = Backlog {
            priorities: &[Priority::High],
            ..backlog(8, 4)
        };
        harness.database.add_backlog(&high).await;
        let released = release(&harness).await;
        found.extend(released.into_iter().filter(|id| *id <= 300));
        harness.database.finish_released().await;
    }
    found.sort_unstable();
    assert_eq!(found, [100, 200, 290]);
}

#[tokio::test]
async fn what_fits_is_found_behind_many_owners_of_whom_nothing_fits() {
    let harness = Harness::new().await;
    harness.database.add_backlog(&backlog(600, 600)).await;
    let small = submit_for(&harness, "last", Priority::Normal).await;
    let sql = format!("update tasks set memory_mib = 1024 where id = {small}");
    harness.database.execute(&sql).await;
    let builder = NewBuilder {
        memory_mib: 1500,
        ..new_builder("b1")
    };
    harness.enrol(builder).await;
    let mut released = Vec::new();
    for _ in 0..4 {
        released.extend(release(&harness).await);
    }
    assert_eq!(released, [small]);
}

#[tokio::test]
async fn of_a_line_the_oldest_that_fits_goes_first() {
    let harness = Harness::new().await;
    let needs = [(8192, "8g"), (6000, "8g"), (5000, "8g")];
    harness
        .database
        .add_backlog(&Backlog {
            needs: &needs,
            ..backlog(90, 1)
        })
        .await;
    let builder = NewBuilder {
        memory_mib: 7000,
        ..new_builder("b1")
    };
    harness.enrol(builder).await;
    assert_eq!(release(&harness).await, [2]);
    harness.database.finish_released().await;
    assert_eq!(release(&harness).await, [3]);
    harness.database.finish_released().await;
    assert_eq!(release(&harness).await, [5], "whatever its size");
    harness.database.finish_released().await;
    // Behind many that fit nowhere.
    let sql = "update tasks set memory_mib = 8192 where id < 60";
    harness.database.execute(sql).await;
    assert_eq!(release(&harness).await, [60], "the smallest");
}
