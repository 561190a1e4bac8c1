use millrace_domain::{AttemptId, AttemptState, BuilderId, OutcomeKind, Phase, TaskState, Token};
use millrace_store::{ClaimInput, ClaimOutcome, Enrolment, NewBuilder};

use crate::harness::{Harness, lease_of, new_builder};

#[tokio::test]
async fn of_twenty_claimants_at_once_one_is_granted_the_attempt() {
    let harness = Harness::new().await;
    let mut builders = Vec::new();
    for number in 0..20 {
        builders.push(harness.builder(&format!("b{number}")).await);
    }
    for _ in 0..3 {
        let build = harness.submit().await;
        let attempt = harness.offer().await;
        let claimants = builders.iter().map(|builder| {
            let (store, builder) = (harness.store().clone(), *builder);
            tokio::spawn(async move {
                let input = ClaimInput {
                    builder_id: builder,
                    attempt_id: attempt,
                    nonce_hash: Token::new("same nonce").hash(),
                    lease_token_hash: lease_of(builder, attempt, ""),
                    lease_seconds: 45,
                };
                (builder, store.claim(&input).await.unwrap())
            })
        });
        let mut winners = Vec::new();
        for claimant in claimants.collect::<Vec<_>>() {
            match claimant.await.unwrap() {
                (builder, ClaimOutcome::Granted { already: false }) => winners.push(builder),
                (_, outcome) => assert_eq!(outcome, ClaimOutcome::Taken),
            }
        }
        assert_eq!(winners.len(), 1);
        let held = harness.attempt(attempt).await;
        assert_eq!(held.builder.unwrap().id, winners[0]);
        harness
            .assert_states(build, TaskState::Running, AttemptState::Claimed)
            .await;
    }
}

#[tokio::test]
async fn the_same_nonce_gets_the_same_answer_and_any_other_nonce_none() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    harness.submit().await;
    let attempt = harness.offer().await;
    let claim = |nonce| harness.try_claim(builder, attempt, nonce);
    assert_eq!(
        claim("first").await,
        ClaimOutcome::Granted { already: false }
    );
    assert_eq!(
        claim("first").await,
        ClaimOutcome::Granted { already: true }
    );
    assert_eq!(claim("second").await, ClaimOutcome::Taken);
    let lease = lease_of(builder, attempt, "first");
    assert!(harness.store().lease_holds(attempt, &lease).await.unwrap());
    let other = lease_of(builder, attempt, "second");
    assert!(!harness.store().lease_holds(attempt, &other).await.unwrap());
}

#[tokio::test]
async fn what_never_existed_or_is_over_cannot_be_claimed() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let unknown = harness
        .try_claim(builder, AttemptId::generate(), "nonce")
        .await;
    assert_eq!(unknown, ClaimOutcome::Revoked);
    let (_, claimed) = harness.running(builder).await;
    harness.accept(claimed, OutcomeKind::Succeeded).await;
    let over = harness.try_claim(builder, claimed.attempt, "nonce").await;
    assert_eq!(over, ClaimOutcome::Revoked);
}

#[tokio::test]
async fn a_claim_before_the_confirm_holds_and_the_confirm_leaves_it_alone() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let build = harness.submit().await;
    let entries = harness.release().await;
    // The relay still waits for the broker while the builder has the message.
    harness.claim(builder, entries[0].attempt_id).await;
    harness
        .assert_states(build, TaskState::Running, AttemptState::Claimed)
        .await;
    harness.store().confirm_published(&entries).await.unwrap();
    harness
        .assert_states(build, TaskState::Running, AttemptState::Claimed)
        .await;
    assert_eq!(harness.store().counts().await.unwrap().outbox, 0);
}

#[tokio::test]
async fn an_order_claimed_while_its_relay_died_is_not_published_again() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    harness.submit().await;
    let attempt = harness.release().await[0].attempt_id;
    harness.claim(builder, attempt).await;
    assert_eq!(harness.take_all().await, []);
    assert_eq!(harness.store().counts().await.unwrap().outbox, 0);
}

#[tokio::test]
async fn confirms_and_claims_side_by_side_never_wait_for_each_other() {
    let harness = Harness::new().await;
    let mut builders = Vec::new();
    for number in 0..4 {
        builders.push(harness.builder(&format!("b{number}")).await);
    }
    for _ in 0..10 {
        for _ in 0..8 {
            harness.submit().await;
        }
        let entries = harness.release().await;
        let attempts: Vec<_> = entries.iter().map(|entry| entry.attempt_id).collect();
        let claims = attempts.iter().enumerate().map(|(index, attempt)| {
            let (store, builder, attempt) =
                (harness.store().clone(), builders[index % 4], *attempt);
            tokio::spawn(async move {
                let input = ClaimInput {
                    builder_id: builder,
                    attempt_id: attempt,
                    nonce_hash: Token::new("nonce").hash(),
                    lease_token_hash: lease_of(builder, attempt, "nonce"),
                    lease_seconds: 45,
                };
                store.claim(&input).await.unwrap()
            })
        });
        let claims: Vec<_> = claims.collect();
        harness.store().confirm_published(&entries).await.unwrap();
        for claim in claims {
            assert_eq!(
                claim.await.unwrap(),
                ClaimOutcome::Granted { already: false }
            );
        }
        let counts = harness.store().counts().await.unwrap();
        assert_eq!((counts.queued, counts.outbox), (0, 0));
        harness
            .database
            .execute("update attempts set phase = 'spooled' where state = 'claimed'")
            .await;
    }
}

#[tokio::test]
async fn another_builder_goes_first_after_a_fault_on_this_one() {
    let harness = Harness::new().await;
    let (first, second) = (harness.builder("b1").await, harness.builder("b2").await);
    let (build, claimed) = harness.running(first).await;
    harness.accept(claimed, OutcomeKind::SandboxFailed).await;
    let attempt = harness.offer().await;
    let refused = harness.try_claim(first, attempt, "nonce").await;
    assert_eq!(refused, ClaimOutcome::Avoid);
    harness
        .assert_states(build, TaskState::Waiting, AttemptState::Revoked)
        .await;
    assert!(
        harness.release().await.is_empty(),
        "it stays away from the broker for a moment"
    );
    let attempt = harness.offer().await;
    harness.claim(second, attempt).await;
    assert_eq!(harness.task(build).await.attempts_counted, 1);
}

#[tokio::test]
async fn the_avoided_builder_gets_the_task_when_nobody_else_can_take_it_or_did_for_a_minute() {
    let harness = Harness::new().await;
    let first = harness.builder("b1").await;
    let too_small = NewBuilder {
        memory_mib: 1024,
        ..new_builder("b2")
    };
    harness.enrol(too_small).await;
    let (build, claimed) = harness.running(first).await;
    harness.accept(claimed, OutcomeKind::SandboxFailed).await;
    let attempt = harness.offer().await;
    let claimed = harness.claim(first, attempt).await;

    harness.builder("b3").await;
    harness.accept(claimed, OutcomeKind::SandboxFailed).await;
    harness
        .database
        .execute("update tasks set waiting_since = now() - interval '61 seconds'")
        .await;
    let attempt = harness.offer().await;
    harness.claim(first, attempt).await;
    assert_eq!(harness.task(build).await.attempts_counted, 2);
}

#[tokio::test]
async fn grants_on_one_engine_stay_within_its_memory_also_at_once() {
    let harness = Harness::new().await;
    let mut builders = Vec::new();
    for name in ["b1", "b2", "b3", "b4"] {
        let shared = NewBuilder {
            engine_id: "shared".to_owned(),
            engine_budget_mib: 5000,
            ..new_builder(name)
        };
        builders.push(harness.enrol(shared).await);
    }
    for _ in 0..4 {
        harness.submit().await;
    }
    let attempts: Vec<_> = harness
        .release()
        .await
        .iter()
        .map(|r| r.attempt_id)
        .collect();
    assert_eq!(attempts.len(), 4);
    let claims = attempts.iter().zip(&builders).map(|(attempt, builder)| {
        let (store, attempt, builder) = (harness.store().clone(), *attempt, *builder);
        tokio::spawn(async move {
            let input = ClaimInput {
                builder_id: builder,
                attempt_id: attempt,
                nonce_hash: Token::new("nonce").hash(),
                lease_token_hash: lease_of(builder, attempt, "nonce"),
                lease_seconds: 45,
            };
            store.claim(&input).await.unwrap()
        })
    });
    let mut outcomes = Vec::new();
    for claim in claims.collect::<Vec<_>>() {
        outcomes.push(claim.await.unwrap());
    }
    let granted = ClaimOutcome::Granted { already: false };
    assert_eq!(outcomes.iter().filter(|o| **o == granted).count(), 2);
    assert_eq!(
        outcomes
            .iter()
            .filter(|o| **o == ClaimOutcome::NoRoom)
            .count(),
        2
    );
    let counts = harness.store().counts().await.unwrap();
    assert_eq!((counts.running, counts.waiting, counts.outbox), (2, 2, 0));
}

#[tokio::test]
async fn memory_comes_back_to_the_engine_when_results_are_safe() {
    let harness = Harness::new().await;
    let narrow = NewBuilder {
        engine_budget_mib: 2048,
        ..new_builder("b1")
    };
    let builder = harness.enrol(narrow).await;
    let (_, claimed) = harness.running(builder).await;
    harness.submit().await;
    harness.beat(claimed, Phase::Spooled).await;
    let attempt = harness.offer().await;
    harness.claim(builder, attempt).await;
}

#[tokio::test]
async fn a_declined_offer_is_put_back_uncounted_and_a_stale_decline_changes_nothing() {
    let harness = Harness::new().await;
    let (first, second) = (harness.builder("b1").await, harness.builder("b2").await);
    let build = harness.submit().await;
    let attempt = harness.offer().await;
    let decline = |builder: BuilderId, lease| {
        let store = harness.store();
        async move {
            store
                .decline(builder, attempt, lease, "no room")
                .await
                .unwrap()
        }
    };
    assert!(decline(first, None).await);
    harness
        .assert_states(build, TaskState::Waiting, AttemptState::Revoked)
        .await;
    assert_eq!(
        harness.attempt(attempt).await.reason.as_deref(),
        Some("no room")
    );
    assert!(!decline(first, None).await, "it was put back before");
    let attempt = harness.offer().await;
    harness.claim(second, attempt).await;
    let stale = harness
        .store()
        .decline(first, attempt, None, "no room")
        .await
        .unwrap();
    assert!(!stale, "another builder has it");
    harness
        .assert_states(build, TaskState::Running, AttemptState::Claimed)
        .await;
    assert_eq!(harness.task(build).await.attempts_counted, 0);
}

#[tokio::test]
async fn a_claim_is_handed_back_only_with_its_lease_token() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (build, claimed) = harness.running(builder).await;
    let wrong = Token::new("wrong").hash();
    let decline = |lease| {
        let store = harness.store();
        async move {
            store
                .decline(builder, claimed.attempt, lease, "stopping")
                .await
                .unwrap()
        }
    };
    assert!(!decline(None).await);
    assert!(!decline(Some(&wrong)).await);
    assert!(decline(Some(&claimed.lease)).await);
    harness
        .assert_states(build, TaskState::Waiting, AttemptState::Revoked)
        .await;
    let task = harness.task(build).await;
    assert_eq!(task.attempts_counted, 0);
    assert_eq!(
        harness.release().await.len(),
        1,
        "it is offered again at once"
    );
}

#[tokio::test]
async fn an_identity_is_taken_up_again_only_with_its_token() {
    let harness = Harness::new().await;
    let first = new_builder("b1");
    harness.enrol(first.clone()).await;
    let thief = NewBuilder {
        name: "thief".to_owned(),
        token_hash: Token::new("stolen").hash(),
        engine_budget_mib: 1,
        ..first.clone()
    };
    let store = harness.store();
    assert_eq!(
        store.enrol_builder(&thief).await.unwrap(),
        Enrolment::IdTaken
    );
    let guess = NewBuilder {
        previous_token_hash: Some(Token::new("guess").hash()),
        ..thief.clone()
    };
    assert_eq!(
        store.enrol_builder(&guess).await.unwrap(),
        Enrolment::IdTaken
    );
    let budget = "select budget_mib::text from engines";
    assert_eq!(harness.database.fetch_text(budget).await.unwrap(), "8192");
    let again = NewBuilder {
        previous_token_hash: Some(first.token_hash),
        token_hash: Token::new("new").hash(),
        name: "renamed".to_owned(),
        ..first.clone()
    };
    assert_eq!(
        store.enrol_builder(&again).await.unwrap(),
        Enrolment::Enrolled { returns: false }
    );
    let known = store
        .builder_by_token(&Token::new("new").hash())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((known.id, known.name.as_str()), (first.id, "renamed"));
    assert_eq!(
        store.builder_by_token(&first.token_hash).await.unwrap(),
        None
    );
    let listed = store.list_builders().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].live);
}
