//! Pollers that execute: one owner for each build, whatever is polled, reported or forgotten.

use millrace_domain::{
    AttemptId, AttemptState, BuildId, Fence, Outcome, OutcomeKind, PollerId, PollerMode, TaskState,
    Token,
};
use millrace_store::{Fetch, NewPoller, PollerReport, Reported};

use crate::harness::{CHROOT, Harness, OTHER_CHROOT};

pub const SILENCE: u32 = 300;
pub const MARGIN: u32 = 3600;

pub fn new_poller(name: &str) -> NewPoller {
    NewPoller {
        name: name.parse().unwrap(),
        mode: PollerMode::Execute,
        token_hash: Token::new(format!("token of {name}")).hash(),
        secret_hash: Token::new(format!("secret of {name}")).hash(),
        projects: Vec::new(),
        chroots: Vec::new(),
        share_percent: 100,
        fence: Fence::Ignore,
        silence_seconds: SILENCE,
    }
}

pub async fn add(harness: &Harness, new: &NewPoller) -> PollerId {
    assert!(harness.store().add_poller(new).await.unwrap());
    let found = harness.store().find_poller(&new.name).await.unwrap();
    found.unwrap().id
}

pub async fn poller(harness: &Harness, name: &str) -> PollerId {
    add(harness, &new_poller(name)).await
}

pub async fn fetch(harness: &Harness, poller: PollerId, limit: u32) -> Vec<i64> {
    let fetch = Fetch {
        poller,
        limit,
        silence_seconds: SILENCE,
    };
    let (builds, _) = harness.store().fetch_for_poller(&fetch).await.unwrap();
    builds.iter().map(|build| build.id.0).collect()
}

pub async fn report(harness: &Harness, poller: PollerId, entries: &[PollerReport]) -> Reported {
    let reported = harness
        .store()
        .accept_poller_report(poller, entries, MARGIN, true);
    reported.await.unwrap()
}

pub fn started(id: BuildId) -> PollerReport {
    PollerReport {
        id: id.0,
        started_on: Some(1_351_157_544),
        results: "http://be/results/main/main/".parse().ok(),
        ..PollerReport::default()
    }
}

pub fn ended(id: BuildId, status: i64) -> PollerReport {
    PollerReport {
        id: id.0,
        ended_on: Some(1_351_157_600),
        status: Some(status),
        ..PollerReport::default()
    }
}

/// Seconds for which the attempts of a build are still owned.
pub async fn lease(harness: &Harness) -> i64 {
    let sql = "select round(extract(epoch from max(lease_until) - now()))::text from attempts where state = 'claimed'";
    let text = harness.database.fetch_text(sql).await.unwrap();
    text.parse().unwrap()
}

#[tokio::test]
async fn a_build_goes_to_the_poller_as_a_whole_and_the_queue_never_sees_it() {
    let harness = Harness::new().await;
    harness.builder("b1").await;
    let poller = poller(&harness, "old").await;
    let build = harness
        .submit_this(&harness.new_build(&[CHROOT, OTHER_CHROOT]))
        .await;
    assert_eq!(harness.release().await, [], "kept from the queue");
    let peeked = harness.store().peek_for_poller(poller, 10).await.unwrap();
    assert_eq!(peeked.len(), 1);
    assert_eq!(
        harness.task(build).await.state,
        TaskState::Waiting,
        "a look claims nothing"
    );
    let listed = harness.store().waiting_builds(10).await.unwrap();
    assert_eq!(listed.len(), 1, "observers see it");

    assert_eq!(fetch(&harness, poller, 10).await, [build.0]);
    for task in harness.build(build).await.tasks {
        assert_eq!(task.state, TaskState::Queued);
        assert_eq!(task.attempts[0].state, AttemptState::Claimed);
        assert_eq!(task.attempts[0].poller.as_deref(), Some("old"));
    }
    assert_eq!(fetch(&harness, poller, 10).await, [build.0], "listed again");
    assert_eq!(harness.build(build).await.tasks[0].attempts.len(), 1);
    let listed = harness.store().waiting_builds(10).await.unwrap();
    assert_eq!(listed, [], "somebody has it");
    harness.skip_delays().await;
    assert_eq!(harness.release().await, []);
}

#[tokio::test]
async fn what_the_poller_has_comes_first_and_the_limit_bounds_what_it_claims() {
    let harness = Harness::new().await;
    let poller = poller(&harness, "old").await;
    let mut builds = Vec::new();
    for _ in 0..5 {
        builds.push(harness.submit().await);
    }
    let ids = |range: &[BuildId]| range.iter().map(|id| id.0).collect::<Vec<_>>();
    assert_eq!(fetch(&harness, poller, 2).await, ids(&builds[..2]));
    assert_eq!(fetch(&harness, poller, 3).await, ids(&builds[..3]));
    report(&harness, poller, &[started(builds[0])]).await;
    assert_eq!(fetch(&harness, poller, 3).await, ids(&builds[1..4]));
    assert_eq!(harness.task(builds[4]).await.state, TaskState::Waiting);
}

#[tokio::test]
async fn lists_fetched_side_by_side_claim_each_build_once() {
    let harness = Harness::new().await;
    let poller = poller(&harness, "old").await;
    for _ in 0..20 {
        harness.submit().await;
    }
    let fetches = (0..8).map(|_| {
        let store = harness.store().clone();
        let fetch = Fetch {
            poller,
            limit: 10,
            silence_seconds: SILENCE,
        };
        tokio::spawn(async move { store.fetch_for_poller(&fetch).await })
    });
    for fetched in fetches.collect::<Vec<_>>() {
        fetched.await.unwrap().unwrap();
    }
    assert_eq!(fetch(&harness, poller, 1000).await.len(), 20);
    let sql = "select count(*)::text from attempts";
    assert_eq!(harness.database.fetch_text(sql).await.unwrap(), "20");
}

#[tokio::test]
async fn a_report_ends_once_and_what_is_over_never_changes() {
    let harness = Harness::new().await;
    let poller = poller(&harness, "old").await;
    let [good, bad, open] = [
        harness.submit().await,
        harness.submit().await,
        harness.submit().await,
    ];
    fetch(&harness, poller, 10).await;
    let unknown = PollerReport {
        id: 99_999,
        ..PollerReport::default()
    };
    let entries = [
        ended(good, 0),
        started(bad),
        unknown,
        ended(bad, 0),
        ended(good, 1),
        PollerReport {
            id: open.0,
            ended_on: Some(5),
            ..PollerReport::default()
        },
    ];
    let reported = report(&harness, poller, &entries).await;
    assert_eq!(reported.updated, [good.0, bad.0, open.0]);
    assert_eq!(reported.unknown, [99_999]);
    harness
        .assert_states(good, TaskState::Succeeded, AttemptState::Finished)
        .await;
    harness
        .assert_states(bad, TaskState::Failed, AttemptState::Finished)
        .await;
    let unknown_end = harness.task(open).await.outcome.unwrap();
    assert_eq!(unknown_end.kind, OutcomeKind::BuildFailed);
    assert!(
        unknown_end.message.starts_with("unknown"),
        "{unknown_end:?}"
    );
    let task = harness.task(good).await;
    assert!(task.ended_at >= task.started_at);
    assert_eq!(task.attempts[0].packages.len(), 1);

    let late = report(&harness, poller, &[ended(good, 0), started(bad)]).await;
    assert_eq!((late.updated.len(), late.ignored.len()), (0, 2));
    harness
        .assert_states(good, TaskState::Succeeded, AttemptState::Finished)
        .await;
}

#[tokio::test]
async fn nobody_reports_for_another_poller_or_for_a_builder() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (build, claimed) = harness.running(builder).await;
    let one = poller(&harness, "one").await;
    let own = harness.submit().await;
    let other = poller(&harness, "other").await;
    fetch(&harness, one, 10).await;
    let refused = report(&harness, other, &[ended(own, 1), ended(build, 1)]).await;
    assert_eq!((refused.updated.len(), refused.ignored.len()), (0, 2));
    assert_eq!(
        harness.attempt(claimed.attempt).await.state,
        AttemptState::Claimed
    );
}

#[tokio::test]
async fn a_success_that_is_looked_into_stays_the_pollers_until_it_is_judged() {
    let harness = Harness::new().await;
    let poller = poller(&harness, "old").await;
    let build = harness.submit().await;
    fetch(&harness, poller, 10).await;
    let entries = [ended(build, 1)];
    let told = harness
        .store()
        .accept_poller_report(poller, &entries, MARGIN, false);
    assert!(told.await.unwrap().to_verify);
    harness
        .assert_states(build, TaskState::Running, AttemptState::Claimed)
        .await;
    let again = report(&harness, poller, &[ended(build, 0)]).await;
    assert_eq!(again.ignored, [build.0], "it was reported");
    assert!(harness.store().sweep_pollers().await.unwrap().to_verify);

    let taken = harness.store().take_unverified(10, 60).await.unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(
        harness.store().take_unverified(10, 60).await.unwrap(),
        [],
        "another has it"
    );
    let outcome = Outcome::new(OutcomeKind::BuildFailed, "it is not there");
    let attempt = taken[0].attempt_id;
    assert!(
        harness
            .store()
            .finish_verified(attempt, &outcome)
            .await
            .unwrap()
    );
    harness
        .assert_states(build, TaskState::Failed, AttemptState::Finished)
        .await;
    assert!(
        !harness
            .store()
            .finish_verified(attempt, &outcome)
            .await
            .unwrap()
    );
    let never = AttemptId::generate();
    assert!(
        !harness
            .store()
            .finish_verified(never, &outcome)
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn rules_and_shares_divide_builds_between_pollers_and_the_queue() {
    let harness = Harness::new().await;
    let only = |name: &str, projects: &[&str], chroots: &[&str], share_percent| NewPoller {
        projects: projects.iter().map(|p| (*p).to_owned()).collect(),
        chroots: chroots.iter().map(|c| c.parse().unwrap()).collect(),
        share_percent,
        ..new_poller(name)
    };
    let other_project = add(&harness, &only("a", &["other/main"], &[], 100)).await;
    let other_chroot = add(&harness, &only("b", &[], &[OTHER_CHROOT], 100)).await;
    let half = add(&harness, &only("c", &["main/main"], &[CHROOT], 50)).await;
    let rest = add(&harness, &only("d", &[], &[CHROOT], 50)).await;
    let both = harness
        .submit_this(&harness.new_build(&[CHROOT, OTHER_CHROOT]))
        .await;
    harness
        .submit_this(&harness.new_build(&[OTHER_CHROOT]))
        .await;
    for _ in 0..60 {
        harness.submit().await;
    }
    let got = |poller| fetch(&harness, poller, 1000);
    assert_eq!(got(other_project).await.len(), 0);
    assert_eq!(got(other_chroot).await.len(), 1);
    let (first, second) = (got(half).await.len(), got(rest).await.len());
    assert_eq!(first + second, 60, "two halves are all");
    assert!(first > 5 && second > 5, "{first} and {second}");
    assert_eq!(harness.task(both).await.state, TaskState::Waiting);
    harness.builder("b1").await;
    assert_eq!(
        harness.release().await.len(),
        1,
        "a build in both chroots is the queue's"
    );
}
