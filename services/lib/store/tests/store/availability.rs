//! Live builders that get no work: drained, or set aside for repeated faults of their own.

use millrace_domain::{BuilderId, OutcomeKind};
use millrace_store::{
    Acceptance, BuilderView, ClaimOutcome, Enrolment, Finished, NewBuilder, ReleaseConfig,
};

use crate::harness::{Harness, new_builder, report};

async fn view(harness: &Harness, builder: BuilderId) -> BuilderView {
    let all = harness.store().list_builders().await.unwrap();
    all.into_iter().find(|b| b.id == builder).unwrap()
}

/// A builder runs a task, which ends so; whether the builder was set aside with it.
async fn ends(harness: &Harness, builder: BuilderId, kind: OutcomeKind) -> bool {
    let (build, claimed) = harness.running(builder).await;
    let finished = Finished {
        set_aside_faults: 3,
        ..report(claimed, kind)
    };
    let acceptance = harness.store().accept(&finished).await.unwrap();
    // What is tried again is not the next one's concern.
    harness.cancel(build).await;
    match acceptance {
        Acceptance::Accepted { set_aside, .. } => set_aside,
        other => panic!("{other:?}"),
    }
}

async fn released(harness: &Harness) -> usize {
    let config = ReleaseConfig::default();
    let release = harness
        .store()
        .release_tasks(&config, |_| serde_json::Value::Null);
    release.await.unwrap().entries.len()
}

#[tokio::test]
async fn a_drained_builder_gets_no_claim_and_opens_no_window() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    harness.submit().await;
    let attempt = harness.offer().await;
    assert!(harness.store().drain_builder(builder).await.unwrap());
    let since = view(&harness, builder).await.drained_at.unwrap();
    assert!(harness.store().drain_builder(builder).await.unwrap());
    assert_eq!(view(&harness, builder).await.drained_at, Some(since));
    let outcome = harness.try_claim(builder, attempt, "n").await;
    assert_eq!(outcome, ClaimOutcome::NoRoom);

    let build = harness.submit().await;
    harness.skip_delays().await;
    assert_eq!(released(&harness).await, 0);
    let task = harness.task(build).await;
    assert_eq!(task.attempts_counted, 0);
    let wait = harness
        .store()
        .wait_facts(&[task.id], 100)
        .await
        .unwrap()
        .remove(0);
    assert_eq!(
        (wait.largest_mib, wait.drained),
        (None, vec!["b1".to_owned()])
    );
    assert_eq!(harness.store().counts().await.unwrap().builders_drained, 1);
    let availability = harness.store().availability(builder, None).await.unwrap();
    assert!(availability.drained && availability.set_aside_at.is_none());

    assert!(harness.store().undrain_builder(builder).await.unwrap());
    assert_eq!(released(&harness).await, 2);
    assert!(
        !harness
            .store()
            .drain_builder(BuilderId::generate())
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn three_faults_in_a_row_set_a_builder_aside_until_its_self_test_has_passed() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    for good in [OutcomeKind::Succeeded, OutcomeKind::BuildFailed] {
        assert!(!ends(&harness, builder, OutcomeKind::SandboxFailed).await);
        assert!(!ends(&harness, builder, OutcomeKind::BuilderDiskFull).await);
        assert!(!ends(&harness, builder, good).await, "{good} begins anew");
    }
    assert!(!ends(&harness, builder, OutcomeKind::SandboxFailed).await);
    assert!(!ends(&harness, builder, OutcomeKind::RepositoryUnreachable).await);
    assert!(!ends(&harness, builder, OutcomeKind::InternalError).await);
    assert!(ends(&harness, builder, OutcomeKind::SandboxFailed).await);
    let aside = view(&harness, builder).await;
    let at = aside.set_aside_at.unwrap();
    assert!(
        aside
            .set_aside_reason
            .unwrap()
            .starts_with("3 attempts in a row")
    );
    assert_eq!(
        harness.store().counts().await.unwrap().builders_set_aside,
        1
    );
    let build = harness.submit().await;
    assert_eq!(released(&harness).await, 0);
    let task = harness.task(build).await.id;
    let wait = harness
        .store()
        .wait_facts(&[task], 100)
        .await
        .unwrap()
        .remove(0);
    assert_eq!(wait.set_aside, ["b1"]);

    let earlier = at - chrono::TimeDelta::seconds(1);
    let availability = harness
        .store()
        .availability(builder, Some(earlier))
        .await
        .unwrap();
    assert_eq!(
        (availability.set_aside_at, availability.returns),
        (Some(at), false)
    );
    let availability = harness
        .store()
        .availability(builder, Some(at))
        .await
        .unwrap();
    assert_eq!(
        (availability.set_aside_at, availability.returns),
        (None, true)
    );
    assert_eq!(released(&harness).await, 1);
}

#[tokio::test]
async fn a_builder_that_starts_anew_is_taken_back_but_not_for_a_new_token() {
    let harness = Harness::new().await;
    let new = new_builder("b1");
    let enrol = async |renewal: bool| {
        let again = NewBuilder {
            previous_token_hash: Some(new.token_hash),
            renewal,
            ..new.clone()
        };
        harness.store().enrol_builder(&again).await.unwrap()
    };
    enrol(false).await;
    let aside = "update builders set faults = 3, set_aside_at = now(), set_aside_reason = 'x', drained_at = now()";
    harness.database.execute(aside).await;
    assert_eq!(enrol(true).await, Enrolment::Enrolled { returns: false });
    assert!(view(&harness, new.id).await.set_aside_at.is_some());
    assert_eq!(enrol(false).await, Enrolment::Enrolled { returns: true });
    let back = view(&harness, new.id).await;
    assert!(back.set_aside_at.is_none() && back.drained_at.is_some());
}
