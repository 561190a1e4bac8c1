//! Consuming against a real broker: verdicts, parking, dead letters, and queues that come and go.

#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test a failure is an answer"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::{
    PATIENCE, builder, depth, frontend, listen, next, outgoing, parked, put, small_jobs, stranger,
    until,
};
use lapin::options::QueueDeleteOptions;
use millrace_bus::testing::TestVhost;
use millrace_bus::{
    Bus, BusConfig, Delivery, EVENTS_QUEUE, Incoming, JobConsumer, Route, Topology, Verdict,
    control_queue,
};
use millrace_domain::BuilderId;
use millrace_wire::{ControlV1, FinishedV1, JobV1, Message, encode, samples};
use tokio::sync::mpsc;
use uuid::Uuid;

fn read<B: Message>(incoming: &Incoming) -> Verdict {
    match incoming.decode::<B>() {
        Ok(_) => Verdict::Done,
        Err(verdict) => verdict,
    }
}

fn good<B: Message>(body: &B) -> Vec<u8> {
    let value = encode(Uuid::now_v7(), samples::time(), body).unwrap();
    serde_json::to_vec(&value).unwrap()
}

/// An unparsable, an unknown and a too new message, each with the reason it must be parked with.
fn misfits<B: Message>(body: &B) -> [(Vec<u8>, String); 3] {
    let value = encode(Uuid::now_v7(), samples::time(), body).unwrap();
    let mut unknown = value.clone();
    unknown["kind"] = "gossip".into();
    let mut too_new = value;
    too_new["version"] = 2.into();
    [
        (b"\xff not json".to_vec(), "unparsable".to_owned()),
        (
            serde_json::to_vec(&unknown).unwrap(),
            "unknown kind 'gossip'".to_owned(),
        ),
        (
            serde_json::to_vec(&too_new).unwrap(),
            format!("{} version 2 is not supported", B::KIND),
        ),
    ]
}

async fn expect_parked(
    receiver: &mut mpsc::UnboundedReceiver<Arc<Incoming>>,
    queue: &str,
    misfits: &[(Vec<u8>, String); 3],
) {
    for _ in misfits {
        let message = next(receiver).await;
        let origin = message.origin.clone().expect("an origin");
        assert_eq!(origin.queue.as_deref(), Some(queue));
        let (_, reason) = misfits
            .iter()
            .find(|(body, _)| *body == message.body)
            .expect("one of the misfits, unchanged");
        assert!(origin.reason.contains(reason), "{}", origin.reason);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_frontend_cannot_read_is_parked_and_the_consumer_goes_on() {
    let vhost = TestVhost::create().await;
    let bus = frontend(&vhost).await;
    let (_connection, channel) = stranger(&vhost).await;
    let misfits = misfits(&samples::finished());
    for (body, _) in &misfits {
        put(&channel, "millrace.events", "attempt.finished", body).await;
    }
    let last = good(&samples::finished());
    put(&channel, "millrace.events", "attempt.finished", &last).await;
    let (mut events, stop) = listen(&bus, EVENTS_QUEUE, read::<FinishedV1>);
    while next(&mut events).await.body != last {}
    let (mut aside, _stop) = parked(&bus);
    expect_parked(&mut aside, EVENTS_QUEUE, &misfits).await;
    stop.and_wait().await;
    assert_eq!(
        depth(&channel, EVENTS_QUEUE).await,
        0,
        "all are acknowledged"
    );
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_builder_cannot_read_is_parked_with_its_own_rights() {
    let vhost = TestVhost::create().await;
    let front = frontend(&vhost).await;
    let id = BuilderId::generate();
    let bus = builder(&vhost, id).await;
    let (_connection, channel) = stranger(&vhost).await;
    let (mut aside, _stop) = parked(&front);

    let (mut hints, _stop) = listen(&bus, &control_queue(id), read::<ControlV1>);
    let bad_hints = misfits(&samples::control());
    for (body, _) in &bad_hints {
        put(&channel, "millrace.control", "all", body).await;
    }
    let last = good(&samples::control());
    put(&channel, "millrace.control", "all", &last).await;
    while next(&mut hints).await.body != last {}
    expect_parked(&mut aside, &control_queue(id), &bad_hints).await;

    let (deliveries, mut jobs) = mpsc::channel::<Delivery>(1);
    let consumer = JobConsumer::spawn(&bus, small_jobs().queue(), deliveries);
    consumer.start().await;
    let bad_jobs = misfits(&samples::job());
    for (body, _) in &bad_jobs {
        put(&channel, "millrace.jobs", &small_jobs().key(), body).await;
    }
    put(
        &channel,
        "millrace.jobs",
        &small_jobs().key(),
        &good(&samples::job()),
    )
    .await;
    for _ in &bad_jobs {
        let delivery = jobs.recv().await.unwrap();
        let verdict = delivery.decode::<JobV1>().unwrap_err();
        delivery.settle(verdict).await.unwrap();
    }
    let delivery = jobs.recv().await.unwrap();
    assert_eq!(delivery.decode::<JobV1>().unwrap().body, samples::job());
    delivery.ack().await.unwrap();
    expect_parked(&mut aside, &small_jobs().queue(), &bad_jobs).await;
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn again_asks_the_handler_again_and_costs_no_delivery() {
    let vhost = TestVhost::create().await;
    let bus = frontend(&vhost).await;
    bus.publisher()
        .publish(outgoing(Route::AttemptFinished, b"{}"))
        .await
        .unwrap();
    let asked = AtomicU32::new(0);
    let (mut events, stop) = listen(&bus, EVENTS_QUEUE, move |_| {
        if asked.fetch_add(1, Ordering::SeqCst) < 2 {
            Verdict::Again
        } else {
            Verdict::Done
        }
    });
    for _ in 0..3 {
        let message = next(&mut events).await;
        assert_eq!((message.delivery_count, message.redelivered), (0, false));
    }
    stop.and_wait().await;
    let (_connection, channel) = stranger(&vhost).await;
    assert_eq!(depth(&channel, EVENTS_QUEUE).await, 0);
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_consumer_leaves_what_it_held_in_the_queue() {
    let vhost = TestVhost::create().await;
    let bus = frontend(&vhost).await;
    bus.publisher()
        .publish(outgoing(Route::AttemptFinished, b"{}"))
        .await
        .unwrap();
    let (mut events, stop) = listen(&bus, EVENTS_QUEUE, |_| Verdict::Again);
    next(&mut events).await;
    stop.and_wait().await;
    let (mut events, _stop) = listen(&bus, EVENTS_QUEUE, |_| Verdict::Done);
    assert!(next(&mut events).await.redelivered);
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_on_which_the_handler_panics_is_parked() {
    let vhost = TestVhost::create().await;
    let bus = frontend(&vhost).await;
    for body in [b"bad", b"fit"] {
        bus.publisher()
            .publish(outgoing(Route::AttemptFinished, body))
            .await
            .unwrap();
    }
    let (mut events, _stop) = listen(&bus, EVENTS_QUEUE, |message| {
        assert_ne!(message.body, b"bad", "this handler cannot take it");
        Verdict::Done
    });
    assert_eq!(next(&mut events).await.body, b"fit");
    let (mut aside, _stop) = parked(&bus);
    let message = next(&mut aside).await;
    assert_eq!(message.body, b"bad");
    assert!(
        message
            .origin
            .as_ref()
            .unwrap()
            .reason
            .contains("failed on this message")
    );
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_never_settled_is_parked_by_the_delivery_limit() {
    let vhost = TestVhost::create().await;
    let bus = frontend(&vhost).await;
    let (deliveries, mut jobs) = mpsc::channel::<Delivery>(1);
    let consumer = JobConsumer::spawn(&bus, small_jobs().queue(), deliveries);
    consumer.start().await;
    bus.publisher()
        .publish(outgoing(small_jobs(), b"poison"))
        .await
        .unwrap();
    for count in 0..=20 {
        let delivery = jobs.recv().await.unwrap();
        assert_eq!(delivery.delivery_count, count);
        delivery.settle(Verdict::Again).await.unwrap();
    }
    let (mut aside, _stop) = parked(&bus);
    let message = next(&mut aside).await;
    assert_eq!(message.body, b"poison");
    let origin = message.origin.clone().unwrap();
    assert_eq!(
        origin.reason,
        format!("delivery limit reached on {}", small_jobs().queue())
    );
    assert_eq!(origin.queue, Some(small_jobs().queue()));
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parked_queue_never_gives_up() {
    let vhost = TestVhost::create().await;
    let bus = frontend(&vhost).await;
    let (_connection, channel) = stranger(&vhost).await;
    put(&channel, "millrace.parked", "somewhere", b"kept").await;
    let (deliveries, mut receiver) = mpsc::channel::<Delivery>(1);
    let consumer = JobConsumer::spawn(&bus, millrace_bus::PARKED_QUEUE.to_owned(), deliveries);
    consumer.start().await;
    for _ in 0..40 {
        let delivery = receiver.recv().await.unwrap();
        delivery.settle(Verdict::Again).await.unwrap();
    }
    receiver.recv().await.unwrap().ack().await.unwrap();
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_is_declared_again_and_consumed_again() {
    let vhost = TestVhost::create().await;
    let bus = frontend(&vhost).await;
    let (mut events, _stop) = listen(&bus, EVENTS_QUEUE, |_| Verdict::Done);
    bus.publisher()
        .publish(outgoing(Route::AttemptFinished, b"1"))
        .await
        .unwrap();
    next(&mut events).await;
    let (_connection, channel) = stranger(&vhost).await;
    let delete = channel.queue_delete(EVENTS_QUEUE.into(), QueueDeleteOptions::default());
    delete.await.unwrap();
    until("a report goes through again", async || {
        bus.publisher()
            .publish(outgoing(Route::AttemptFinished, b"2"))
            .await
            .is_ok()
    })
    .await;
    assert_eq!(next(&mut events).await.body, b"2");
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_builder_waits_for_a_frontend_that_comes_later() {
    let vhost = TestVhost::create().await;
    let id = BuilderId::generate();
    let config = BusConfig::new(&vhost.builder_url(), "builder").unwrap();
    let early = Bus::start(config, Topology::builder(id));
    let error = early.wait_up(Duration::from_secs(1)).await.unwrap_err();
    assert!(error.reason.contains("millrace.control"), "{error}");
    let (deliveries, mut jobs) = mpsc::channel::<Delivery>(1);
    let consumer = JobConsumer::spawn(&early, small_jobs().queue(), deliveries);
    consumer.start().await;
    let front = frontend(&vhost).await;
    early.wait_up(PATIENCE).await.unwrap();
    front
        .publisher()
        .publish(outgoing(small_jobs(), b"job"))
        .await
        .unwrap();
    let delivery = tokio::time::timeout(PATIENCE, jobs.recv())
        .await
        .unwrap()
        .unwrap();
    delivery.ack().await.unwrap();
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_consumer_that_is_stopped_hands_back_what_was_on_its_way() {
    let vhost = TestVhost::create().await;
    let front = frontend(&vhost).await;
    let bus = builder(&vhost, BuilderId::generate()).await;
    // Nobody reads here, so the second delivery stays in the consumer's hands.
    let (deliveries, mut jobs) = mpsc::channel::<Delivery>(1);
    let filler = JobConsumer::spawn(&bus, small_jobs().queue(), deliveries.clone());
    let consumer = JobConsumer::spawn(&bus, small_jobs().queue(), deliveries);
    filler.start().await;
    front
        .publisher()
        .publish(outgoing(small_jobs(), b"first"))
        .await
        .unwrap();
    let (_connection, channel) = stranger(&vhost).await;
    let queue = small_jobs().queue();
    until("it is handed out", async || {
        depth(&channel, &queue).await == 0
    })
    .await;
    consumer.start().await;
    consumer.start().await;
    front
        .publisher()
        .publish(outgoing(small_jobs(), b"second"))
        .await
        .unwrap();
    until("it is handed out", async || {
        depth(&channel, &queue).await == 0
    })
    .await;
    let back = consumer.stop().await;
    assert_eq!(back.len(), 1);
    for delivery in back {
        assert_eq!(delivery.body, b"second");
        delivery.ack().await.unwrap();
    }
    assert!(
        consumer.stop().await.is_empty(),
        "stopping twice is stopping once"
    );
    assert!(filler.stop().await.is_empty());
    let first = jobs.recv().await.unwrap();
    assert_eq!(first.body, b"first");

    // While stopped nothing is taken; started again, the next one comes.
    front
        .publisher()
        .publish(outgoing(small_jobs(), b"third"))
        .await
        .unwrap();
    until("it waits", async || depth(&channel, &queue).await == 1).await;
    first.ack().await.unwrap();
    assert_eq!(depth(&channel, &queue).await, 1);
    consumer.start().await;
    let third = tokio::time::timeout(PATIENCE, jobs.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(third.delivery_count, 0);
    third.ack().await.unwrap();
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_come_one_at_a_time_however_often_the_consumer_starts_and_stops() {
    let vhost = TestVhost::create().await;
    let front = frontend(&vhost).await;
    let bus = builder(&vhost, BuilderId::generate()).await;
    let messages = (0..200)
        .map(|n: u32| outgoing(small_jobs(), n.to_string()))
        .collect();
    for result in front.publisher().publish_batch(messages).await {
        result.unwrap();
    }
    let (deliveries, mut jobs) = mpsc::channel::<Delivery>(1);
    let consumer = JobConsumer::spawn(&bus, small_jobs().queue(), deliveries);
    let mut seen = Vec::new();
    while seen.len() < 200 {
        consumer.start().await;
        let taken = tokio::time::timeout(PATIENCE, jobs.recv())
            .await
            .unwrap()
            .unwrap();
        let mut all = consumer.stop().await;
        all.push(taken);
        while let Ok(more) = jobs.try_recv() {
            all.push(more);
        }
        assert_eq!(all.len(), 1, "one job at a time");
        for delivery in all {
            assert_eq!(delivery.delivery_count, 0, "no job was returned");
            seen.push(
                String::from_utf8(delivery.body.clone())
                    .unwrap()
                    .parse::<u32>()
                    .unwrap(),
            );
            delivery.ack().await.unwrap();
        }
    }
    assert_eq!(seen, (0..200).collect::<Vec<_>>());
    vhost.delete().await;
}
