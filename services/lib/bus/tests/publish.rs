//! Publishing against a real broker: confirmed, returned, pipelined, refused.

#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    reason = "in a test a failure is an answer"
)]

mod common;

use std::time::Duration;

use common::{PATIENCE, builder, depth, frontend, next, outgoing, small_jobs, stranger, until};
use lapin::options::ExchangeDeleteOptions;
use millrace_bus::testing::TestVhost;
use millrace_bus::{
    Bus, BusConfig, EVENTS_QUEUE, PublishError, Route, Topology, Verdict, control_queue,
};
use millrace_domain::BuilderId;
use secrecy::SecretString;
use uuid::Uuid;

fn nowhere() -> Route {
    Route::Job {
        key: "vax.2g".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_message_is_in_its_queue() {
    let vhost = TestVhost::create().await;
    let bus = frontend(&vhost).await;
    let message = outgoing(small_jobs(), b"{}");
    bus.publisher().publish(message).await.unwrap();
    let (_connection, channel) = stranger(&vhost).await;
    let queue = small_jobs().queue();
    until("it is counted", async || depth(&channel, &queue).await == 1).await;
    bus.close().await;
    assert_eq!(
        bus.publisher().publish(outgoing(small_jobs(), b"{}")).await,
        Err(PublishError::Closed)
    );
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_no_queue_takes_is_an_error() {
    let vhost = TestVhost::create().await;
    let bus = frontend(&vhost).await;
    let error = bus
        .publisher()
        .publish(outgoing(nowhere(), b"{}"))
        .await
        .unwrap_err();
    assert!(matches!(&error, PublishError::Returned { key, .. } if key == "vax.2g"));
    assert!(error.is_certainly_unsent());
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_thousand_messages_each_returned_one_is_told_from_the_others() {
    let vhost = TestVhost::create().await;
    let bus = frontend(&vhost).await;
    // Several publishers at once, so that batches meet in one window and acknowledgements cover many.
    let batches = (0..4u32).map(|batch| {
        let publisher = bus.publisher();
        tokio::spawn(async move {
            let is_lost = move |n: u32| n % (7 + batch) == 3;
            let messages = (0..1000)
                .map(|n| {
                    let route = if is_lost(n) {
                        nowhere()
                    } else {
                        small_jobs().into()
                    };
                    outgoing(route, n.to_string())
                })
                .collect();
            let results = publisher.publish_batch(messages).await;
            assert_eq!(results.len(), 1000);
            let mut stored = 0;
            for (n, result) in (0..).zip(results) {
                assert_eq!(
                    matches!(result, Err(PublishError::Returned { .. })),
                    is_lost(n),
                    "message {n} of batch {batch}: {result:?}"
                );
                stored += u32::from(result.is_ok());
            }
            stored
        })
    });
    let mut stored = 0;
    for batch in batches.collect::<Vec<_>>() {
        stored += batch.await.unwrap();
    }
    let (_connection, channel) = stranger(&vhost).await;
    let queue = small_jobs().queue();
    until("all are counted", async || {
        depth(&channel, &queue).await == stored
    })
    .await;
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn publishers_that_go_away_in_the_middle_harm_nobody() {
    let vhost = TestVhost::create().await;
    let bus = frontend(&vhost).await;
    for n in 0..300u32 {
        let publisher = bus.publisher();
        let publish = publisher.publish(outgoing(small_jobs(), n.to_string()));
        let _ = tokio::time::timeout(Duration::from_micros(u64::from(n)), publish).await;
    }
    bus.publisher()
        .publish(outgoing(small_jobs(), b"last"))
        .await
        .unwrap();
    assert!(bus.is_up());
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_exchange_costs_one_publish_and_is_declared_again() {
    let vhost = TestVhost::create().await;
    let bus = frontend(&vhost).await;
    let links = (bus.publishing(), bus.consuming());
    bus.publisher()
        .publish(outgoing(small_jobs(), b"before"))
        .await
        .unwrap();
    let (_connection, channel) = stranger(&vhost).await;
    let delete = channel.exchange_delete("millrace.jobs".into(), ExchangeDeleteOptions::default());
    delete.await.unwrap();
    let error = bus
        .publisher()
        .publish(outgoing(small_jobs(), b"gone"))
        .await
        .unwrap_err();
    assert!(matches!(error, PublishError::Lost(_)), "{error}");
    until("a message goes through again", async || {
        bus.publisher()
            .publish(outgoing(small_jobs(), b"after"))
            .await
            .is_ok()
    })
    .await;
    let unchanged = !links.0.has_changed().unwrap() && !links.1.has_changed().unwrap();
    assert!(unchanged, "only the channel ended, no connection");
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_reach_one_builder_or_all_and_need_none() {
    let vhost = TestVhost::create().await;
    let bus = frontend(&vhost).await;
    let (one, two) = (BuilderId::generate(), BuilderId::generate());
    let publisher = bus.publisher();
    publisher
        .hint(Route::Builder(one), Uuid::now_v7(), b"too early".to_vec())
        .await;
    let first = builder(&vhost, one).await;
    let second = builder(&vhost, two).await;
    let (mut to_first, _stop) = common::listen(&first, &control_queue(one), |_| Verdict::Done);
    let (mut to_second, _stop) = common::listen(&second, &control_queue(two), |_| Verdict::Done);
    publisher
        .hint(Route::Builder(one), Uuid::now_v7(), b"one".to_vec())
        .await;
    publisher
        .hint(Route::AllBuilders, Uuid::now_v7(), b"all".to_vec())
        .await;
    let mut bodies = [
        next(&mut to_first).await.body.clone(),
        next(&mut to_first).await.body.clone(),
    ];
    bodies.sort();
    assert_eq!(bodies, [b"all", b"one"]);
    assert_eq!(next(&mut to_second).await.body, b"all");
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_beyond_the_protocols_limit_is_an_error_of_its_message_only() {
    let vhost = TestVhost::create().await;
    let bus = frontend(&vhost).await;
    let long = Route::Job {
        key: "x".repeat(300),
    };
    let messages = vec![outgoing(long, b"{}"), outgoing(small_jobs(), b"{}")];
    let results = bus.publisher().publish_batch(messages).await;
    assert_eq!(results, [Err(PublishError::TooLong), Ok(())]);
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_builder_may_report_and_nothing_else() {
    let vhost = TestVhost::create().await;
    let _frontend = frontend(&vhost).await;
    let bus = builder(&vhost, BuilderId::generate()).await;
    bus.publisher()
        .publish(outgoing(Route::AttemptFinished, b"{}"))
        .await
        .unwrap();
    let foreign = [
        Route::from(small_jobs()),
        Route::AllBuilders,
        Route::Builder(BuilderId::generate()),
    ];
    for route in foreign {
        let error = bus
            .publisher()
            .publish(outgoing(route, b"{}"))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("ACCESS_REFUSED"), "{error}");
    }
    let (mut reports, _stop) = common::listen(&bus, EVENTS_QUEUE, |_| Verdict::Done);
    let wait = tokio::time::timeout(Duration::from_secs(2), reports.recv());
    assert!(wait.await.is_err(), "a builder must not read reports");

    let config = BusConfig::new(&vhost.builder_url(), "intruder").unwrap();
    let topology = Topology::frontend(["x86_64"], &common::classes());
    let refused = Bus::start(config, topology)
        .wait_up(Duration::from_secs(3))
        .await
        .unwrap_err();
    assert!(refused.reason.contains("ACCESS_REFUSED"), "{refused}");
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_is_told_without_the_password() {
    let vhost = TestVhost::create().await;
    let _frontend = frontend(&vhost).await;
    let url: SecretString = secrecy::ExposeSecret::expose_secret(&vhost.builder_url())
        .replace(":test@", ":s3cret@")
        .into();
    let bus = Bus::start(BusConfig::new(&url, "thief").unwrap(), Topology::none());
    let error = bus.wait_up(Duration::from_secs(3)).await.unwrap_err();
    assert!(error.to_string().contains("ACCESS_REFUSED"), "{error}");
    assert!(!format!("{error} {error:?}").contains("s3cret"));
    assert!(matches!(
        bus.publisher()
            .publish(outgoing(Route::AttemptFinished, b"{}"))
            .await,
        Err(PublishError::Disconnected(_))
    ));
    bus.close().await;
    assert!(tokio::time::timeout(PATIENCE, bus.close()).await.is_ok());
    vhost.delete().await;
}
