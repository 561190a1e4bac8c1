use millrace_domain::{AttemptId, OutcomeKind};
use millrace_store::{Deleted, Retention, UploadedFile};

use crate::house::{Claimed, House, file, report};

const KEEPING: Retention = Retention {
    keys_days: 7,
    parked: 100,
    parked_days: 90,
    builders_days: 30,
};

async fn forget(house: &House) -> Deleted {
    house.store().forget(&KEEPING).await.unwrap()
}

async fn upload(house: &House, claimed: Claimed, name: &str) {
    let view = file(name, 'a');
    let uploaded = UploadedFile {
        position: 0,
        name: view.name,
        size: view.size,
        sha256: view.sha256,
    };
    let store = house.store();
    let recorded = store.record_file(claimed.attempt, &claimed.lease, &uploaded);
    assert!(recorded.await.unwrap());
}

#[tokio::test]
async fn parked_messages_are_listed_newest_first_and_bounded_by_count_and_age() {
    let house = House::new().await;
    let store = house.store();
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
    house.database.execute(more).await;
    assert_eq!(forget(&house).await.parked, 5);
    assert_eq!(store.counts().await.unwrap().parked, 100);
    let age = "update parked_messages set parked_at = now() - interval '91 days'
        where id in (select id from parked_messages order by id limit 30)";
    house.database.execute(age).await;
    assert_eq!(forget(&house).await.parked, 30);
    assert!(forget(&house).await.is_nothing());
}

#[tokio::test]
async fn idempotency_keys_are_forgotten_after_the_time_set() {
    let house = House::new().await;
    let mut new = house.new_build(&[crate::house::CHROOT]);
    new.key = Some(millrace_store::SubmissionKey {
        key: "key".parse().unwrap(),
        digest: [0; 32],
    });
    let first = house.submit_this(&new).await;
    let age =
        |age: &str| format!("update idempotency_keys set created_at = now() - interval '{age}'");
    house.database.execute(&age("6 days 23 hours")).await;
    assert_eq!(forget(&house).await.keys, 0);
    house.database.execute(&age("7 days 1 second")).await;
    assert_eq!(forget(&house).await.keys, 1);
    assert_ne!(house.submit_this(&new).await, first);
}

#[tokio::test]
async fn builders_go_when_they_are_old_and_no_attempt_names_them_and_their_engines_follow() {
    let house = House::new().await;
    let (named, _) = (house.builder("named").await, house.builder("old").await);
    house.running(named).await;
    let age = "update builders set last_seen_at = now() - interval '31 days'";
    house.database.execute(age).await;
    house.builder("young").await;
    let forgotten = forget(&house).await;
    assert_eq!((forgotten.builders, forgotten.engines), (1, 1));
    let left = "select string_agg(name, ' ' order by name) from builders";
    let left = house.database.fetch_text(left).await;
    assert_eq!(left.as_deref(), Some("named young"));
}

#[tokio::test]
async fn of_frontends_at_once_one_has_the_turn() {
    let house = House::new().await;
    let turns = (0..8).map(|_| {
        let store = house.store().clone();
        tokio::spawn(async move { store.take_turn("hour", 3600).await.unwrap() })
    });
    let mut taken = 0;
    for turn in turns.collect::<Vec<_>>() {
        taken += u32::from(turn.await.unwrap());
    }
    assert_eq!(taken, 1);
    assert!(!house.store().take_turn("hour", 3600).await.unwrap());
    assert!(house.store().take_turn("minute", 60).await.unwrap());
}

#[tokio::test]
async fn files_of_an_attempt_that_was_lost_are_forgotten_and_those_of_an_accepted_one_stay() {
    let house = House::new().await;
    let (first, second) = (house.builder("b1").await, house.builder("b2").await);
    let (_, lost) = house.running(first).await;
    upload(&house, lost, "a.rpm").await;
    house.let_lease_run_out(lost.attempt).await;
    house.sweep().await;
    let good = house.claim(second, house.offer().await).await;
    upload(&house, good, "a.rpm").await;
    upload(&house, good, "left-over.rpm").await;
    let mut told = report(good, OutcomeKind::Succeeded);
    told.packages[0].files = vec![file("a.rpm", 'a')];
    house.store().accept(&told).await.unwrap();
    let (_, live) = house.running(second).await;
    upload(&house, live, "b.rpm").await;

    let store = house.store();
    assert_eq!(store.untidy_attempts(120).await.unwrap(), [], "too early");
    let untidy = store.untidy_attempts(0).await.unwrap();
    let found: Vec<(AttemptId, bool)> = untidy.iter().map(|a| (a.id, a.accepted)).collect();
    assert_eq!(found, [(lost.attempt, false), (good.attempt, true)]);
    let all = [lost.attempt, good.attempt, live.attempt];
    let stale = store.never_accepted(&all, 0).await.unwrap();
    assert_eq!(stale, [lost.attempt]);
    // Naming the live one is a mistake that changes nothing.
    store.note_tidied(&all).await.unwrap();
    assert_eq!(store.untidy_attempts(0).await.unwrap(), []);
    let mut files = Vec::new();
    for attempt in all {
        files.push(store.recorded_files(attempt).await.unwrap().len());
    }
    assert_eq!(files, [0, 1, 1]);
}

#[tokio::test]
async fn logs_are_bounded_by_age_and_by_count_and_the_attempts_stay() {
    let house = House::new().await;
    let builder = house.builder("b1").await;
    let mut ended = Vec::new();
    for age in [400, 3, 2, 1] {
        let (_, claimed) = house.running(builder).await;
        house.accept(claimed, OutcomeKind::Succeeded).await;
        let sql = format!(
            "update attempts set ended_at = now() - interval '{age} days' where id = '{}'",
            claimed.attempt
        );
        house.database.execute(&sql).await;
        ended.push(claimed.attempt);
    }
    house.running(builder).await;
    let store = house.store();
    assert_eq!(store.old_logs(365, 10).await.unwrap(), ended[..1]);
    assert_eq!(store.old_logs(365, 2).await.unwrap(), ended[..2]);
    store.note_logs_removed(&ended[..2]).await.unwrap();
    assert_eq!(store.old_logs(365, 2).await.unwrap(), []);
    assert!(store.log_removed_at(ended[0]).await.unwrap().is_some());
    assert_eq!(store.log_removed_at(ended[2]).await.unwrap(), None);
    assert!(house.attempt(ended[0]).await.outcome.is_some());
}

#[tokio::test]
async fn a_source_is_unnamed_until_a_build_names_it() {
    let house = House::new().await;
    let digests = ["a".repeat(64), "b".repeat(64)];
    let mut new = house.new_build(&[crate::house::CHROOT]);
    new.sources[0].place = millrace_store::SourcePlace::Stored {
        sha256: digests[0].clone(),
        size: 7,
    };
    house.submit_this(&new).await;
    let unnamed = house.store().unnamed_sources(&digests).await.unwrap();
    assert_eq!(unnamed, digests[1..]);
}

#[tokio::test]
async fn with_the_broker_away_the_outbox_stays_within_the_window_and_rows_go_with_their_attempts() {
    let house = House::new().await;
    house.builder("b1").await;
    let first = house.submit().await;
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
    assert_eq!(house.database.execute(&copies).await, 3000);
    for _ in 0..20 {
        house.release().await;
    }
    let counts = house.store().counts().await.unwrap();
    // 8 GiB of room for tasks of 2 GiB, and a window of twice the room.
    assert_eq!((counts.outbox, counts.waiting), (8, 3001));
    let offered: Vec<AttemptId> = house
        .take_all()
        .await
        .iter()
        .map(|e| e.attempt_id)
        .collect();
    for attempt in offered {
        assert!(house.store().revoke_attempt(attempt, "test").await.unwrap());
    }
    assert_eq!(house.store().counts().await.unwrap().outbox, 0);
}
