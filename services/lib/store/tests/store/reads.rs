use millrace_domain::{BuildId, BuildState, Name, OutcomeKind};
use millrace_store::{ListQuery, StoreError};

use crate::harness::{CHROOT, Harness, OTHER_CHROOT};

async fn listed(harness: &Harness, query: ListQuery) -> Vec<i64> {
    let builds = harness.store().list_builds(&query).await.unwrap();
    builds.iter().map(|build| build.id.0).collect()
}

#[tokio::test]
async fn builds_are_paged_newest_first() {
    let harness = Harness::new().await;
    for _ in 0..5 {
        harness.submit().await;
    }
    let page = |before: Option<i64>| ListQuery {
        before: before.map(BuildId),
        limit: 2,
        ..ListQuery::default()
    };
    assert_eq!(listed(&harness, page(None)).await, [5, 4]);
    assert_eq!(listed(&harness, page(Some(4))).await, [3, 2]);
    assert_eq!(listed(&harness, page(Some(2))).await, [1]);
    assert!(listed(&harness, page(Some(1))).await.is_empty());
}

#[tokio::test]
async fn a_list_by_state_agrees_with_the_state_that_is_shown() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    for kind in [OutcomeKind::Succeeded, OutcomeKind::BuildFailed] {
        let (_, claimed) = harness.running(builder).await;
        harness.accept(claimed, kind).await;
    }
    harness.running(builder).await;
    let cancelled = harness.submit().await;
    harness.cancel(cancelled).await;
    // One of its tasks succeeds, the other one waits for a builder that is not there.
    let mixed = harness
        .submit_this(&harness.new_build(&[CHROOT, OTHER_CHROOT]))
        .await;
    let attempt = harness.offer().await;
    let claimed = harness.claim(builder, attempt).await;
    harness.accept(claimed, OutcomeKind::Succeeded).await;
    harness.submit().await;
    harness.offer().await;
    assert_eq!(harness.build(mixed).await.state(), BuildState::Waiting);
    let mut found = 0;
    for state in BuildState::ALL {
        let query = ListQuery {
            state: Some(*state),
            limit: 100,
            ..ListQuery::default()
        };
        let builds = harness.store().list_builds(&query).await.unwrap();
        assert!(builds.iter().all(|build| build.state() == *state));
        assert_eq!(builds.len(), 1, "{state}");
        found += builds.len();
    }
    let all = ListQuery {
        limit: 100,
        ..ListQuery::default()
    };
    assert_eq!(listed(&harness, all).await.len(), found);
}

#[tokio::test]
async fn a_list_of_another_project_is_empty_and_unknown_ids_are_none() {
    let harness = Harness::new().await;
    harness.submit().await;
    let other: Name = "other".parse().unwrap();
    let project = harness
        .store()
        .ensure_defaults(&other, &other, &[])
        .await
        .unwrap();
    let query = ListQuery {
        project: Some(project.id),
        limit: 10,
        ..ListQuery::default()
    };
    assert!(listed(&harness, query).await.is_empty());
    let store = harness.store();
    assert!(store.build(BuildId(99)).await.unwrap().is_none());
    assert!(
        store
            .task(millrace_domain::TaskId(99))
            .await
            .unwrap()
            .is_none()
    );
    let unknown = millrace_domain::AttemptId::generate();
    assert!(store.attempt(unknown).await.unwrap().is_none());
}

#[tokio::test]
async fn a_task_and_an_attempt_read_alone_are_those_of_their_build() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (build, claimed) = harness.running(builder).await;
    harness.accept(claimed, OutcomeKind::Succeeded).await;
    let whole = harness.build(build).await;
    let task = harness.store().task(whole.tasks[0].id).await.unwrap();
    assert_eq!(task.as_ref(), Some(&whole.tasks[0]));
    assert_eq!(
        harness.attempt(claimed.attempt).await,
        whole.tasks[0].attempts[0]
    );
}

#[tokio::test]
async fn a_row_that_no_state_can_have_is_an_error_that_names_it() {
    let harness = Harness::new().await;
    let build = harness.submit().await;
    harness
        .database
        .execute("alter table tasks drop constraint tasks_state_check")
        .await;
    harness
        .database
        .execute("update tasks set state = 'done'")
        .await;
    let error = harness.store().build(build).await.unwrap_err();
    assert!(matches!(
        error,
        StoreError::Inconsistent { table: "tasks", .. }
    ));
    assert_eq!(
        error.to_string(),
        "table tasks, row 1: 'done' is no task state"
    );
}

async fn waiting(harness: &Harness, limit: u32) -> Vec<i64> {
    let builds = harness.store().waiting_builds(limit).await.unwrap();
    builds.iter().map(|build| build.id.0).collect()
}

#[tokio::test]
async fn the_legacy_list_shows_the_oldest_untouched_builds_by_time_then_id() {
    let harness = Harness::new().await;
    for _ in 0..4 {
        harness.submit().await;
    }
    harness
        .database
        .execute("update builds set submitted_at = '2026-01-02' where id in (1, 3)")
        .await;
    harness
        .database
        .execute("update builds set submitted_at = '2026-01-01' where id = 4")
        .await;
    assert_eq!(waiting(&harness, 10).await, [4, 1, 3, 2]);
    assert_eq!(waiting(&harness, 2).await, [4, 1]);
    let first = harness.store().waiting_builds(1).await.unwrap().remove(0);
    assert_eq!(first.project.owner.as_str(), "main");
    assert_eq!(first.project.id, harness.project.id);
    assert_eq!(first.project.chroots.len(), 2);
    assert_eq!(first.sources.len(), 1);
    assert_eq!(first.limits.memory_mib, 2048);
}

#[tokio::test]
async fn a_build_leaves_the_legacy_list_with_its_first_claim_its_cancel_or_its_end_for_good() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let cancelled = harness.submit().await;
    harness.cancel(cancelled).await;
    let (_, claimed) = harness.running(builder).await;
    assert!(waiting(&harness, 10).await.is_empty());
    harness.accept(claimed, OutcomeKind::SandboxFailed).await;
    assert!(
        waiting(&harness, 10).await.is_empty(),
        "it was claimed once"
    );
    let attempt = harness.offer().await;
    let claimed = harness.claim(builder, attempt).await;
    harness.accept(claimed, OutcomeKind::Succeeded).await;
    let never_claimed = harness.submit().await;
    let attempt = harness.offer().await;
    assert_eq!(
        waiting(&harness, 10).await,
        [never_claimed.0],
        "waiting and queued alike"
    );
    harness
        .store()
        .revoke_attempt(attempt, "poison")
        .await
        .unwrap();
    for _ in 0..2 {
        let attempt = harness.offer().await;
        harness
            .store()
            .revoke_attempt(attempt, "poison")
            .await
            .unwrap();
    }
    assert!(
        waiting(&harness, 10).await.is_empty(),
        "it failed unclaimed"
    );
}
