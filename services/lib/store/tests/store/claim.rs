use millrace_domain::{AttemptId, AttemptState, BuilderId, OutcomeKind, Phase, TaskState, Token};
use millrace_store::{ClaimInput, ClaimOutcome, Enrolment, NewBuilder};

use crate::house::{House, lease_of, new_builder};

#[tokio::test]
async fn of_twenty_claimants_at_once_one_is_granted_the_attempt() {
    let house = House::new().await;
    let mut builders = Vec::new();
    for number in 0..20 {
        builders.push(house.builder(&format!("b{number}")).await);
    }
    for _ in 0..3 {
        let build = house.submit().await;
        let attempt = house.offer().await;
        let claimants = builders.iter().map(|builder| {
            let (store, builder) = (house.store().clone(), *builder);
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
        let held = house.attempt(attempt).await;
        assert_eq!(held.builder.unwrap().id, winners[0]);
        house
            .assert_states(build, TaskState::Running, AttemptState::Claimed)
            .await;
    }
}

#[tokio::test]
async fn the_same_nonce_gets_the_same_answer_and_any_other_nonce_none() {
    let house = House::new().await;
    let builder = house.builder("b1").await;
    house.submit().await;
    let attempt = house.offer().await;
    let claim = |nonce| house.try_claim(builder, attempt, nonce);
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
    assert!(house.store().lease_holds(attempt, &lease).await.unwrap());
    let other = lease_of(builder, attempt, "second");
    assert!(!house.store().lease_holds(attempt, &other).await.unwrap());
}

#[tokio::test]
async fn what_never_existed_or_is_over_cannot_be_claimed() {
    let house = House::new().await;
    let builder = house.builder("b1").await;
    let unknown = house
        .try_claim(builder, AttemptId::generate(), "nonce")
        .await;
    assert_eq!(unknown, ClaimOutcome::Revoked);
    let (_, claimed) = house.running(builder).await;
    house.accept(claimed, OutcomeKind::Succeeded).await;
    let over = house.try_claim(builder, claimed.attempt, "nonce").await;
    assert_eq!(over, ClaimOutcome::Revoked);
}

#[tokio::test]
async fn a_claim_before_the_confirm_holds_and_the_confirm_leaves_it_alone() {
    let house = House::new().await;
    let builder = house.builder("b1").await;
    let build = house.submit().await;
    let entries = house.release().await;
    // The relay still waits for the broker while the builder has the message.
    house.claim(builder, entries[0].attempt_id).await;
    house
        .assert_states(build, TaskState::Running, AttemptState::Claimed)
        .await;
    house.store().confirm_published(&entries).await.unwrap();
    house
        .assert_states(build, TaskState::Running, AttemptState::Claimed)
        .await;
    assert_eq!(house.store().counts().await.unwrap().outbox, 0);
}

#[tokio::test]
async fn an_order_claimed_while_its_relay_died_is_not_published_again() {
    let house = House::new().await;
    let builder = house.builder("b1").await;
    house.submit().await;
    let attempt = house.release().await[0].attempt_id;
    house.claim(builder, attempt).await;
    assert_eq!(house.take_all().await, []);
    assert_eq!(house.store().counts().await.unwrap().outbox, 0);
}

#[tokio::test]
async fn confirms_and_claims_side_by_side_never_wait_for_each_other() {
    let house = House::new().await;
    let mut builders = Vec::new();
    for number in 0..4 {
        builders.push(house.builder(&format!("b{number}")).await);
    }
    for _ in 0..10 {
        for _ in 0..8 {
            house.submit().await;
        }
        let entries = house.release().await;
        let attempts: Vec<_> = entries.iter().map(|entry| entry.attempt_id).collect();
        let claims = attempts.iter().enumerate().map(|(index, attempt)| {
            let (store, builder, attempt) = (house.store().clone(), builders[index % 4], *attempt);
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
        house.store().confirm_published(&entries).await.unwrap();
        for claim in claims {
            assert_eq!(
                claim.await.unwrap(),
                ClaimOutcome::Granted { already: false }
            );
        }
        let counts = house.store().counts().await.unwrap();
        assert_eq!((counts.queued, counts.outbox), (0, 0));
        house
            .database
            .execute("update attempts set phase = 'spooled' where state = 'claimed'")
            .await;
    }
}

#[tokio::test]
async fn another_builder_goes_first_after_a_fault_on_this_one() {
    let house = House::new().await;
    let (first, second) = (house.builder("b1").await, house.builder("b2").await);
    let (build, claimed) = house.running(first).await;
    house.accept(claimed, OutcomeKind::SandboxFailed).await;
    let attempt = house.offer().await;
    let refused = house.try_claim(first, attempt, "nonce").await;
    assert_eq!(refused, ClaimOutcome::Avoid);
    house
        .assert_states(build, TaskState::Waiting, AttemptState::Revoked)
        .await;
    assert!(
        house.release().await.is_empty(),
        "it stays away from the broker for a moment"
    );
    let attempt = house.offer().await;
    house.claim(second, attempt).await;
    assert_eq!(house.task(build).await.attempts_counted, 1);
}

#[tokio::test]
async fn the_avoided_builder_gets_the_task_when_nobody_else_can_take_it_or_did_for_a_minute() {
    let house = House::new().await;
    let first = house.builder("b1").await;
    let too_small = NewBuilder {
        memory_mib: 1024,
        ..new_builder("b2")
    };
    house.enrol(too_small).await;
    let (build, claimed) = house.running(first).await;
    house.accept(claimed, OutcomeKind::SandboxFailed).await;
    let attempt = house.offer().await;
    let claimed = house.claim(first, attempt).await;

    house.builder("b3").await;
    house.accept(claimed, OutcomeKind::SandboxFailed).await;
    house
        .database
        .execute("update tasks set waiting_since = now() - interval '61 seconds'")
        .await;
    let attempt = house.offer().await;
    house.claim(first, attempt).await;
    assert_eq!(house.task(build).await.attempts_counted, 2);
}

#[tokio::test]
async fn grants_on_one_engine_stay_within_its_memory_also_at_once() {
    let house = House::new().await;
    let mut builders = Vec::new();
    for name in ["b1", "b2", "b3", "b4"] {
        let shared = NewBuilder {
            engine_id: "shared".to_owned(),
            engine_budget_mib: 5000,
            ..new_builder(name)
        };
        builders.push(house.enrol(shared).await);
    }
    for _ in 0..4 {
        house.submit().await;
    }
    let attempts: Vec<_> = house.release().await.iter().map(|r| r.attempt_id).collect();
    assert_eq!(attempts.len(), 4);
    let claims = attempts.iter().zip(&builders).map(|(attempt, builder)| {
        let (store, attempt, builder) = (house.store().clone(), *attempt, *builder);
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
    let counts = house.store().counts().await.unwrap();
    assert_eq!((counts.running, counts.waiting, counts.outbox), (2, 2, 0));
}

#[tokio::test]
async fn memory_comes_back_to_the_engine_when_results_are_safe() {
    let house = House::new().await;
    let narrow = NewBuilder {
        engine_budget_mib: 2048,
        ..new_builder("b1")
    };
    let builder = house.enrol(narrow).await;
    let (_, claimed) = house.running(builder).await;
    house.submit().await;
    house.beat(claimed, Phase::Spooled).await;
    let attempt = house.offer().await;
    house.claim(builder, attempt).await;
}

#[tokio::test]
async fn a_declined_offer_is_put_back_uncounted_and_a_stale_decline_changes_nothing() {
    let house = House::new().await;
    let (first, second) = (house.builder("b1").await, house.builder("b2").await);
    let build = house.submit().await;
    let attempt = house.offer().await;
    let decline = |builder: BuilderId, lease| {
        let store = house.store();
        async move {
            store
                .decline(builder, attempt, lease, "no room")
                .await
                .unwrap()
        }
    };
    assert!(decline(first, None).await);
    house
        .assert_states(build, TaskState::Waiting, AttemptState::Revoked)
        .await;
    assert_eq!(
        house.attempt(attempt).await.reason.as_deref(),
        Some("no room")
    );
    assert!(!decline(first, None).await, "it was put back before");
    let attempt = house.offer().await;
    house.claim(second, attempt).await;
    let stale = house
        .store()
        .decline(first, attempt, None, "no room")
        .await
        .unwrap();
    assert!(!stale, "another builder has it");
    house
        .assert_states(build, TaskState::Running, AttemptState::Claimed)
        .await;
    assert_eq!(house.task(build).await.attempts_counted, 0);
}

#[tokio::test]
async fn a_claim_is_handed_back_only_with_its_lease_token() {
    let house = House::new().await;
    let builder = house.builder("b1").await;
    let (build, claimed) = house.running(builder).await;
    let wrong = Token::new("wrong").hash();
    let decline = |lease| {
        let store = house.store();
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
    house
        .assert_states(build, TaskState::Waiting, AttemptState::Revoked)
        .await;
    let task = house.task(build).await;
    assert_eq!(task.attempts_counted, 0);
    assert_eq!(
        house.release().await.len(),
        1,
        "it is offered again at once"
    );
}

#[tokio::test]
async fn an_identity_is_taken_up_again_only_with_its_token() {
    let house = House::new().await;
    let first = new_builder("b1");
    house.enrol(first.clone()).await;
    let thief = NewBuilder {
        name: "thief".to_owned(),
        token_hash: Token::new("stolen").hash(),
        engine_budget_mib: 1,
        ..first.clone()
    };
    let store = house.store();
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
    assert_eq!(house.database.fetch_text(budget).await.unwrap(), "8192");
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
