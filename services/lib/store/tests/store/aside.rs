//! Builders that are heard of and get no work: drained, or set aside for faults of their own.

use millrace_domain::{BuilderId, OutcomeKind};
use millrace_store::{
    Acceptance, BuilderView, ClaimOutcome, Enrolment, Finished, NewBuilder, ReleaseConfig,
};

use crate::house::{House, new_builder, report};

async fn view(house: &House, builder: BuilderId) -> BuilderView {
    let all = house.store().list_builders().await.unwrap();
    all.into_iter().find(|b| b.id == builder).unwrap()
}

/// A builder runs a task, which ends so; whether the builder was set aside with it.
async fn ends(house: &House, builder: BuilderId, kind: OutcomeKind) -> bool {
    let (build, claimed) = house.running(builder).await;
    let finished = Finished {
        set_aside_faults: 3,
        ..report(claimed, kind)
    };
    let acceptance = house.store().accept(&finished).await.unwrap();
    // What is tried again is not the next one's concern.
    house.cancel(build).await;
    match acceptance {
        Acceptance::Accepted { set_aside, .. } => set_aside,
        other => panic!("{other:?}"),
    }
}

async fn released(house: &House) -> usize {
    let config = ReleaseConfig::default();
    let release = house
        .store()
        .release_tasks(&config, |_| serde_json::Value::Null);
    release.await.unwrap().entries.len()
}

#[tokio::test]
async fn a_drained_builder_gets_no_claim_and_opens_no_window() {
    let house = House::new().await;
    let builder = house.builder("b1").await;
    house.submit().await;
    let attempt = house.offer().await;
    assert!(house.store().drain_builder(builder).await.unwrap());
    let since = view(&house, builder).await.drained_at.unwrap();
    assert!(house.store().drain_builder(builder).await.unwrap());
    assert_eq!(view(&house, builder).await.drained_at, Some(since));
    let outcome = house.try_claim(builder, attempt, "n").await;
    assert_eq!(outcome, ClaimOutcome::NoRoom);

    let build = house.submit().await;
    house.skip_delays().await;
    assert_eq!(released(&house).await, 0);
    let task = house.task(build).await;
    assert_eq!(task.attempts_counted, 0);
    let wait = house
        .store()
        .wait_facts(&[task.id], 100)
        .await
        .unwrap()
        .remove(0);
    assert_eq!(
        (wait.largest_mib, wait.drained),
        (None, vec!["b1".to_owned()])
    );
    assert_eq!(house.store().counts().await.unwrap().builders_drained, 1);
    let standing = house.store().standing(builder, None).await.unwrap();
    assert!(standing.drained && standing.set_aside_at.is_none());

    assert!(house.store().undrain_builder(builder).await.unwrap());
    assert_eq!(released(&house).await, 2);
    assert!(
        !house
            .store()
            .drain_builder(BuilderId::generate())
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn three_faults_in_a_row_set_a_builder_aside_until_its_self_test_has_passed() {
    let house = House::new().await;
    let builder = house.builder("b1").await;
    for good in [OutcomeKind::Succeeded, OutcomeKind::BuildFailed] {
        assert!(!ends(&house, builder, OutcomeKind::SandboxFailed).await);
        assert!(!ends(&house, builder, OutcomeKind::BuilderDiskFull).await);
        assert!(!ends(&house, builder, good).await, "{good} begins anew");
    }
    assert!(!ends(&house, builder, OutcomeKind::SandboxFailed).await);
    assert!(!ends(&house, builder, OutcomeKind::RepositoryUnreachable).await);
    assert!(!ends(&house, builder, OutcomeKind::InternalError).await);
    assert!(ends(&house, builder, OutcomeKind::SandboxFailed).await);
    let aside = view(&house, builder).await;
    let at = aside.set_aside_at.unwrap();
    assert!(
        aside
            .set_aside_reason
            .unwrap()
            .starts_with("3 attempts in a row")
    );
    assert_eq!(house.store().counts().await.unwrap().builders_set_aside, 1);
    let build = house.submit().await;
    assert_eq!(released(&house).await, 0);
    let task = house.task(build).await.id;
    let wait = house
        .store()
        .wait_facts(&[task], 100)
        .await
        .unwrap()
        .remove(0);
    assert_eq!(wait.set_aside, ["b1"]);

    let earlier = at - chrono::TimeDelta::seconds(1);
    let standing = house
        .store()
        .standing(builder, Some(earlier))
        .await
        .unwrap();
    assert_eq!((standing.set_aside_at, standing.returns), (Some(at), false));
    let standing = house.store().standing(builder, Some(at)).await.unwrap();
    assert_eq!((standing.set_aside_at, standing.returns), (None, true));
    assert_eq!(released(&house).await, 1);
}

#[tokio::test]
async fn a_builder_that_starts_anew_is_taken_back_but_not_for_a_new_token() {
    let house = House::new().await;
    let new = new_builder("b1");
    let enrol = async |renewal: bool| {
        let again = NewBuilder {
            previous_token_hash: Some(new.token_hash),
            renewal,
            ..new.clone()
        };
        house.store().enrol_builder(&again).await.unwrap()
    };
    enrol(false).await;
    let aside = "update builders set faults = 3, set_aside_at = now(), set_aside_reason = 'x', drained_at = now()";
    house.database.execute(aside).await;
    assert_eq!(enrol(true).await, Enrolment::Enrolled { returns: false });
    assert!(view(&house, new.id).await.set_aside_at.is_some());
    assert_eq!(enrol(false).await, Enrolment::Enrolled { returns: true });
    let back = view(&house, new.id).await;
    assert!(back.set_aside_at.is_none() && back.drained_at.is_some());
}
