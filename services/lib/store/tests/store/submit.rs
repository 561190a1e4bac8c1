use std::collections::HashSet;
use std::time::Duration;

use millrace_domain::{BuildState, TaskState};
use millrace_store::{
    NewBuild, NewSource, SourcePlace, Store, StoreConfig, Submission, SubmissionKey, SubmitRefused,
};
use tokio::time::timeout;

use crate::harness::{CHROOT, Harness, OTHER_CHROOT};

fn keyed(harness: &Harness, digest: u8) -> NewBuild {
    let key = SubmissionKey {
        key: "key-1".parse().unwrap(),
        digest: [digest; 32],
    };
    NewBuild {
        key: Some(key),
        ..harness.new_build(&[CHROOT])
    }
}

#[tokio::test]
async fn a_build_is_read_back_as_it_was_submitted() {
    let harness = Harness::new().await;
    let mut new = harness.new_build(&[OTHER_CHROOT, CHROOT]);
    new.sources.push(NewSource {
        name: "world-2-1.src.rpm".parse().unwrap(),
        place: SourcePlace::Stored {
            sha256: "ab".repeat(32),
            size: 5,
        },
    });
    let id = harness.submit_this(&new).await;
    let build = harness.build(id).await;
    assert_eq!(build.state(), BuildState::Waiting);
    assert_eq!(build.chroots, new.chroots);
    assert_eq!(build.repositories, new.repositories);
    assert_eq!(build.limits, new.limits);
    assert_eq!(build.owner.as_str(), "main");
    let places: Vec<_> = build.sources.iter().map(|s| s.place.clone()).collect();
    assert_eq!(
        places,
        new.sources
            .iter()
            .map(|s| s.place.clone())
            .collect::<Vec<_>>()
    );
    let chroots: Vec<_> = build.tasks.iter().map(|t| t.chroot.clone()).collect();
    assert_eq!(chroots, new.chroots);
    assert!(build.tasks.iter().all(|t| t.state == TaskState::Waiting));
    assert!(
        harness
            .store()
            .source_exists(&"ab".repeat(32))
            .await
            .unwrap()
    );
    assert!(
        !harness
            .store()
            .source_exists(&"cd".repeat(32))
            .await
            .unwrap()
    );
    let name = "world-2-1.src.rpm".parse().unwrap();
    assert!(
        harness
            .store()
            .source_named(&"ab".repeat(32), &name)
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn a_submission_is_answered_with_what_a_reader_sees() {
    let harness = Harness::new().await;
    let mut new = keyed(&harness, 1);
    new.sources.push(new.sources[0].clone());
    new.chroots.insert(0, OTHER_CHROOT.parse().unwrap());
    let answer = harness.store().submit_build(&new).await.unwrap();
    let Submission::Accepted(view) = answer else {
        panic!("refused: {answer:?}")
    };
    let read = harness.store().build(view.id).await.unwrap();
    assert_eq!(Some(*view), read);
}

#[tokio::test]
async fn the_same_key_with_the_same_content_is_the_same_build() {
    let harness = Harness::new().await;
    let new = keyed(&harness, 1);
    let first = harness.submit_this(&new).await;
    let again = harness.store().submit_build(&new).await.unwrap();
    assert_eq!(again, Submission::Replayed(first));
    assert_eq!(harness.store().counts().await.unwrap().waiting, 1);
}

#[tokio::test]
async fn the_same_key_finds_its_build_also_after_the_chroot_was_disabled() {
    let harness = Harness::new().await;
    let new = keyed(&harness, 1);
    let first = harness.submit_this(&new).await;
    harness
        .database
        .execute("update chroots set enabled = false")
        .await;
    let again = harness.store().submit_build(&new).await.unwrap();
    assert_eq!(again, Submission::Replayed(first));
}

#[tokio::test]
async fn the_same_key_with_other_content_is_refused() {
    let harness = Harness::new().await;
    harness.submit_this(&keyed(&harness, 1)).await;
    let other = harness
        .store()
        .submit_build(&keyed(&harness, 2))
        .await
        .unwrap();
    assert_eq!(other, Submission::Refused(SubmitRefused::KeyReused));
    assert_eq!(harness.store().counts().await.unwrap().waiting, 1);
}

#[tokio::test]
async fn twenty_twins_at_once_make_one_build() {
    let harness = Harness::new().await;
    let twins = (0..20).map(|_| {
        let (store, new) = (harness.store().clone(), keyed(&harness, 1));
        tokio::spawn(async move { store.submit_build(&new).await.unwrap() })
    });
    let (mut ids, mut fresh) = (HashSet::new(), 0);
    for twin in twins.collect::<Vec<_>>() {
        match twin.await.unwrap() {
            Submission::Accepted(view) => {
                ids.insert(view.id);
                fresh += 1;
            }
            Submission::Replayed(id) => {
                ids.insert(id);
            }
            Submission::Refused(reason) => panic!("refused: {reason}"),
        }
    }
    assert_eq!((ids.len(), fresh), (1, 1));
    assert_eq!(harness.store().counts().await.unwrap().waiting, 1);
}

#[tokio::test]
async fn an_unknown_or_disabled_chroot_is_named_and_nothing_is_stored() {
    let harness = Harness::new().await;
    let unknown = harness.new_build(&[CHROOT, "fedora-44-riscv64"]);
    let refused = harness.store().submit_build(&unknown).await.unwrap();
    let name = "fedora-44-riscv64".parse().unwrap();
    assert_eq!(
        refused,
        Submission::Refused(SubmitRefused::UnknownChroot(name))
    );
    harness
        .database
        .execute("update chroots set enabled = false where name like '%aarch64'")
        .await;
    let disabled = harness.new_build(&[CHROOT, OTHER_CHROOT]);
    let refused = harness.store().submit_build(&disabled).await.unwrap();
    let name = OTHER_CHROOT.parse().unwrap();
    assert_eq!(
        refused,
        Submission::Refused(SubmitRefused::UnknownChroot(name))
    );
    let rows = "select ((select count(*) from builds) + (select count(*) from tasks)
        + (select count(*) from sources))::text";
    assert_eq!(harness.database.fetch_text(rows).await.unwrap(), "0");
}

const DEADLINE: Duration = Duration::from_secs(10);

/// Another frontend's store on the same database.
fn other_store(harness: &Harness) -> Store {
    Store::connect(&StoreConfig::new(harness.database.url())).unwrap()
}

#[tokio::test]
async fn a_submission_wakes_others_who_listen_but_not_its_own_store() {
    let harness = Harness::new().await;
    let (mut others, mut own) = (other_store(&harness).listen(), harness.store().listen());
    // The first one says that listening has begun.
    timeout(DEADLINE, others.next()).await.unwrap();
    timeout(DEADLINE, own.next()).await.unwrap();
    harness.submit().await;
    timeout(DEADLINE, others.next()).await.unwrap();
    // By now the notification is delivered to everyone.
    let woken = timeout(Duration::from_millis(100), own.next()).await;
    assert!(woken.is_err(), "woken by its own submission");
}

#[tokio::test]
async fn listening_begins_again_after_its_connection_was_ended() {
    let harness = Harness::new().await;
    let mut wakeups = other_store(&harness).listen();
    timeout(DEADLINE, wakeups.next()).await.unwrap();
    harness
        .database
        .execute(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where query like 'LISTEN%' and datname = current_database()",
        )
        .await;
    timeout(DEADLINE, wakeups.next()).await.unwrap();
    harness.submit().await;
    timeout(DEADLINE, wakeups.next()).await.unwrap();
}
