use millrace_domain::{AttemptId, OutcomeKind};
use millrace_store::{Deleted, Retention, UploadedFile};

use crate::harness::{Claimed, Harness, file, report};

const KEEPING: Retention = Retention {
    keys_days: 7,
    parked: 100,
    parked_days: 90,
    builders_days: 30,
};

async fn forget(harness: &Harness) -> Deleted {
    harness.store().delete_expired(&KEEPING).await.unwrap()
}

async fn upload(harness: &Harness, claimed: Claimed, name: &str) {
    let view = file(name, 'a');
    let uploaded = UploadedFile {
        position: 0,
        name: view.name,
        size: view.size,
        sha256: view.sha256,
    };
    let store = harness.store();
    let recorded = store.record_file(claimed.attempt, &claimed.lease, &uploaded);
    assert!(recorded.await.unwrap());
}

#[tokio::test]
async fn parked_messages_are_listed_newest_first_and_bounded_by_count_and_age() {
    let harness = Harness::new().await;
    let store = harness.store();
    for number in 0..5 {
        let body = format!("body {number}\0");
        store.park("queue", "unknown kind", &body).await.unwrap();
    }
    let page = store.list_parked(None, 2).await.unwrap();
    assert_eq!(page.len(), 2);
    assert_eq!(page[0].body, "body 4\u{fffd}");
    let page = store.list_parked(Some(page[1].id), 10).await.unwrap();
    assert_eq!(page.len(), 3);
    let more = "insert into parked_messages (queue, reason, body) select 'q', 'r', 'b' from generate_series(1, 100)";
    harness.database.execute(more).await;
    assert_eq!(forget(&harness).await.parked, 5);
    assert_eq!(store.counts().await.unwrap().parked, 100);
    let age = "update parked_messages set parked_at = now() - interval '91 days'
        where id in (select id from parked_messages order by id limit 30)";
    harness.database.execute(age).await;
    assert_eq!(forget(&harness).await.parked, 30);
    assert!(forget(&harness).await.is_nothing());
}

#[tokio::test]
async fn idempotency_keys_are_forgotten_after_the_time_set() {
    let harness = Harness::new().await;
    let mut new = harness.new_build(&[crate::harness::CHROOT]);
    new.key = Some(millrace_store::SubmissionKey {
        key: "key".parse().unwrap(),
        digest: [0; 32],
    });
    let first = harness.submit_this(&new).await;
    let age =
        |age: &str| format!("update idempotency_keys set created_at = now() - interval '{age}'");
    harness.database.execute(&age("6 days 23 hours")).await;
    assert_eq!(forget(&harness).await.keys, 0);
    harness.database.execute(&age("7 days 1 second")).await;
    assert_eq!(forget(&harness).await.keys, 1);
    assert_ne!(harness.submit_this(&new).await, first);
}

#[tokio::test]
async fn builders_go_when_they_are_old_and_no_attempt_names_them_and_their_engines_follow() {
    let harness = Harness::new().await;
    let (named, _) = (harness.builder("named").await, harness.builder("old").await);
    harness.running(named).await;
    let age = "update builders set last_seen_at = now() - interval '31 days'";
    harness.database.execute(age).await;
    harness.builder("young").await;
    let forgotten = forget(&harness).await;
    assert_eq!((forgotten.builders, forgotten.engines), (1, 1));
    let left = "select string_agg(name, ' ' order by name) from builders";
    let left = harness.database.fetch_text(left).await;
    assert_eq!(left.as_deref(), Some("named young"));
}

#[tokio::test]
async fn of_frontends_at_once_one_has_the_turn() {
    let harness = Harness::new().await;
    let turns = (0..8).map(|_| {
        let store = harness.store().clone();
        tokio::spawn(async move { store.claim_periodic_run("hour", 3600).await.unwrap() })
    });
    let mut taken = 0;
    for turn in turns.collect::<Vec<_>>() {
        taken += u32::from(turn.await.unwrap());
    }
    assert_eq!(taken, 1);
    assert!(
        !harness
            .store()
            .claim_periodic_run("hour", 3600)
            .await
            .unwrap()
    );
    assert!(
        harness
            .store()
            .claim_periodic_run("minute", 60)
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn files_of_an_attempt_that_was_lost_are_forgotten_and_those_of_an_accepted_one_stay() {
    let harness = Harness::new().await;
    let (first, second) = (harness.builder("b1").await, harness.builder("b2").await);
    let (_, lost) = harness.running(first).await;
    upload(&harness, lost, "a.rpm").await;
    harness.let_lease_run_out(lost.attempt).await;
    harness.sweep().await;
    let good = harness.claim(second, harness.offer().await).await;
    upload(&harness, good, "a.rpm").await;
    upload(&harness, good, "left-over.rpm").await;
    let mut told = report(good, OutcomeKind::Succeeded);
    told.packages[0].files = vec![file("a.rpm", 'a')];
    harness.store().accept(&told).await.unwrap();
    let (_, live) = harness.running(second).await;
    upload(&harness, live, "b.rpm").await;

    let store = harness.store();
    assert_eq!(
        store.uncleaned_attempts(120).await.unwrap(),
        [],
        "too early"
    );
    let untidy = store.uncleaned_attempts(0).await.unwrap();
    let found: Vec<(AttemptId, bool)> = untidy.iter().map(|a| (a.id, a.accepted)).collect();
    assert_eq!(found, [(lost.attempt, false), (good.attempt, true)]);
    let all = [lost.attempt, good.attempt, live.attempt];
    let stale = store.never_accepted(&all, 0).await.unwrap();
    assert_eq!(stale, [lost.attempt]);
    // Naming the live one is a mistake that changes nothing.
    store.mark_cleaned(&all).await.unwrap();
    assert_eq!(store.uncleaned_attempts(0).await.unwrap(), []);
    let mut files = Vec::new();
    for attempt in all {
        files.push(store.recorded_files(attempt).await.unwrap().len());
    }
    assert_eq!(files, [0, 1, 1]);
}

#[tokio::test]
async fn logs_are_bounded_by_age_and_by_count_and_the_attempts_stay() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let mut ended = Vec::new();
    for age in [400, 3, 2, 1] {
        let (_, claimed) = harness.running(builder).await;
        harness.accept(claimed, OutcomeKind::Succeeded).await;
        let sql = format!(
            "update attempts set ended_at = now() - interval '{age} days' where id = '{}'",
            claimed.attempt
        );
        harness.database.execute(&sql).await;
        ended.push(claimed.attempt);
    }
    harness.running(builder).await;
    let store = harness.store();
    assert_eq!(store.old_logs(365, 10).await.unwrap(), ended[..1]);
    assert_eq!(store.old_logs(365, 2).await.unwrap(), ended[..2]);
    store.note_logs_removed(&ended[..2]).await.unwrap();
    assert_eq!(store.old_logs(365, 2).await.unwrap(), []);
    assert!(store.log_removed_at(ended[0]).await.unwrap().is_some());
    assert_eq!(store.log_removed_at(ended[2]).await.unwrap(), None);
    assert!(harness.attempt(ended[0]).await.outcome.is_some());
}

#[tokio::test]
async fn a_source_is_unnamed_until_a_build_names_it() {
    let harness = Harness::new().await;
    let digests = ["a".repeat(64), "b".repeat(64)];
    let mut new = harness.new_build(&[crate::harness::CHROOT]);
    new.sources[0].place = millrace_store::SourcePlace::Stored {
        sha256: digests[0].clone(),
        size: 7,
    };
    harness.submit_this(&new).await;
    let unnamed = harness.store().unnamed_sources(&digests).await.unwrap();
    assert_eq!(unnamed, digests[1..]);
}

#[tokio::test]
async fn with_the_broker_away_the_outbox_stays_within_the_window_and_rows_go_with_their_attempts() {
    let harness = Harness::new().await;
    harness.builder("b1").await;
    let first = harness.submit().await;
    let copies = format!(
        "with b as (
            insert into builds (project_id, submitter_id, chroots, repositories, memory_mib, timeout_seconds)
            select project_id, submitter_id, chroots, repositories, memory_mib, timeout_seconds
            from builds, generate_series(1, 3000) where id = {first} returning id
        )
        insert into tasks (build_id, chroot, arch, memory_class, memory_mib, owner_id, priority)
        select b.id, t.chroot, t.arch, t.memory_class, t.memory_mib, t.owner_id, t.priority
        from b, tasks t where t.build_id = {first}"
    );
    assert_eq!(harness.database.execute(&copies).await, 3000);
    for _ in 0..20 {
        harness.release().await;
    }
    let counts = harness.store().counts().await.unwrap();
    // 8 GiB of room for tasks of 2 GiB, and a window of twice the room.
    assert_eq!((counts.outbox, counts.waiting), (8, 3001));
    let offered: Vec<AttemptId> = harness
        .take_all()
        .await
        .iter()
        .map(|e| e.attempt_id)
        .collect();
    for attempt in offered {
        assert!(
            harness
                .store()
                .revoke_attempt(attempt, "test")
                .await
                .unwrap()
        );
    }
    assert_eq!(harness.store().counts().await.unwrap().outbox, 0);
}
