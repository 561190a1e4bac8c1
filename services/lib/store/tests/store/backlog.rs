//! What a long backlog may not cost: each step of the daily work finds its rows by key, whatever the planner knows of
//! the tables.

use millrace_domain::{OutcomeKind, Phase, Priority};
use millrace_store::{Backlog, ReserveConfig, TestDatabase};

use crate::harness::{CHROOT, Harness};

const WAITING: u32 = 20_000;
/// Rows and index entries that a step may read; a pass over one route of the backlog would be thousands.
const MOST_READ: i64 = 1_500;

const NEEDS: [(u32, &str); 3] = [(2048, "2g"), (1024, "2g"), (4096, "4g")];

fn backlog(tasks: u32, owners: u32) -> Backlog<'static> {
    Backlog {
        tasks,
        owners,
        chroot: CHROOT,
        needs: &NEEDS,
        priorities: &[Priority::Normal, Priority::Background, Priority::High],
    }
}

/// Rows and index entries read in this database so far, by its one connection.
async fn reads(harness: &Harness) -> i64 {
    let flush = "select pg_stat_force_next_flush()::text";
    harness.database.fetch_text(flush).await;
    let sum = "select ((select sum(idx_tup_read) from pg_stat_user_indexes)
        + (select sum(seq_tup_read) from pg_stat_user_tables))::bigint::text";
    harness
        .database
        .fetch_text(sum)
        .await
        .unwrap()
        .parse()
        .unwrap()
}

/// One task's way, and what each step of it has read.
async fn one_way(harness: &Harness) -> Vec<(&'static str, i64)> {
    let builder = harness.builder("b1").await;
    let store = harness.store();
    let mut steps = Vec::new();
    let mut before = reads(harness).await;
    let mut done = async |step| {
        let now = reads(harness).await;
        steps.push((step, now - before));
        before = now;
    };
    let reserve = ReserveConfig {
        after_seconds: 300,
        owner_running: 100,
    };
    let build = harness.submit().await;
    done("submit").await;
    store.reserve(&reserve).await.unwrap();
    done("reserve").await;
    let released = harness.release().await;
    assert!(!released.is_empty());
    done("release").await;
    store.confirm_published(&released).await.unwrap();
    done("confirm").await;
    let claimed = harness.claim(builder, released[0].attempt_id).await;
    done("claim").await;
    assert_eq!(store.kept_free(builder).await.unwrap(), None);
    harness.beat(claimed, Phase::Building).await;
    done("heartbeat").await;
    harness.accept(claimed, OutcomeKind::Succeeded).await;
    done("accept").await;
    harness.sweep().await;
    done("sweep").await;
    store.cancel_build(build, 20).await.unwrap();
    done("cancel").await;
    store
        .list_builds(&millrace_store::ListQuery::default())
        .await
        .unwrap();
    done("list").await;
    store.waiting_builds(100).await.unwrap();
    done("legacy list").await;
    // Nothing of it is in the way of the next one.
    let sql = "update tasks set state = 'cancelled', ended_at = now(), outcome = '{\"kind\": \"cancelled\", \"message\": \"\"}'
        where state in ('queued', 'running')";
    harness.database.execute(sql).await;
    harness
        .database
        .execute("update attempts set state = 'revoked' where state in ('offered', 'claimed')")
        .await;
    harness
        .database
        .execute("update builders set last_seen_at = '-infinity'")
        .await;
    steps
}

async fn assert_nothing_reads_the_backlog(harness: &Harness, scene: &str) {
    let steps = one_way(harness).await;
    let too_much = |(_, read): &&(&str, i64)| *read >= MOST_READ;
    let found: Vec<_> = steps.iter().filter(too_much).collect();
    assert!(
        found.is_empty(),
        "{scene}: rows and index entries read: {found:?}"
    );
}

async fn a_long_backlog(owners: u32) {
    let harness = Harness::on(TestDatabase::create_narrow().await).await;
    assert_nothing_reads_the_backlog(&harness, "plans made for an empty database").await;
    // Much has ended and nothing waits: by the statistics an index of what waits is empty.
    harness.database.add_backlog(&backlog(2_000, owners)).await;
    let sql = "update tasks set state = 'failed', ended_at = now(), outcome = '{\"kind\": \"build_failed\", \"message\": \"\"}'
        where state = 'waiting'";
    harness.database.execute(sql).await;
    harness
        .database
        .execute("update builds set first_claim_at = now()")
        .await;
    harness.database.execute("vacuum analyze").await;
    assert_nothing_reads_the_backlog(&harness, "much has ended").await;
    harness
        .database
        .add_backlog(&backlog(WAITING, owners))
        .await;
    assert_nothing_reads_the_backlog(&harness, "statistics of a time when nothing waited").await;
    harness.database.execute("analyze").await;
    assert_nothing_reads_the_backlog(&harness, "statistics of now").await;
}

#[tokio::test]
async fn no_step_reads_a_long_backlog_of_one_owner() {
    a_long_backlog(1).await;
}

#[tokio::test]
async fn no_step_reads_a_long_backlog_of_many_owners() {
    a_long_backlog(500).await;
}

#[tokio::test]
async fn no_step_reads_a_backlog_with_plans_made_for_small_tables() {
    let harness = Harness::on(TestDatabase::create_narrow().await).await;
    harness.database.add_backlog(&backlog(30, 5)).await;
    harness.database.execute("vacuum analyze").await;
    assert_nothing_reads_the_backlog(&harness, "small tables").await;
    harness.database.add_backlog(&backlog(WAITING, 500)).await;
    assert_nothing_reads_the_backlog(&harness, "plans made for small tables").await;
}

#[tokio::test]
async fn no_step_reads_a_backlog_that_came_before_any_statistics() {
    let harness = Harness::on(TestDatabase::create_narrow().await).await;
    harness.database.add_backlog(&backlog(WAITING, 1)).await;
    assert_nothing_reads_the_backlog(&harness, "no statistics").await;
}
