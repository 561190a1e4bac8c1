//! The floor of throughput: confirmed publish, consume, confirmed result, ack, of the same payload on the same broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use millrace_bus::testing::TestVhost;
use millrace_bus::{
    Bus, BusConfig, ConsumerOptions, JobRoute, Outgoing, Route, Topology, Verdict, run_consumer,
};
use millrace_chassis::CancellationToken;
use millrace_domain::MemoryClasses;
use millrace_tests::until;
use millrace_wire::{encode, samples};
use uuid::Uuid;

const PUBLISHERS: usize = 16;
const CONSUMERS: usize = 8;

/// Messages per second, one figure a run.
pub async fn measure(runs: usize, messages: usize) -> Vec<f64> {
    let vhost = TestVhost::create().await;
    let classes = MemoryClasses::default();
    let route = JobRoute::new("x86_64", classes.of(2048));
    let bus = Bus::start(
        BusConfig::new(&vhost.admin_url(), "floor").unwrap(),
        Topology::frontend(["x86_64"], &classes),
    );
    bus.wait_up(Duration::from_secs(30)).await.unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    let stop = CancellationToken::new();
    let consumers: Vec<_> = (0..CONSUMERS)
        .map(|_| {
            tokio::spawn(consume(
                bus.clone(),
                route.queue(),
                done.clone(),
                stop.clone(),
            ))
        })
        .collect();
    let mut rates = Vec::new();
    for _ in 0..runs {
        done.store(0, Ordering::SeqCst);
        let started = Instant::now();
        publish(&bus, &route, messages).await;
        until("the floor's messages have come back", async || {
            (done.load(Ordering::SeqCst) >= messages).then_some(())
        })
        .await;
        #[expect(clippy::cast_precision_loss, reason = "a small count")]
        rates.push(messages as f64 / started.elapsed().as_secs_f64());
    }
    stop.cancel();
    for consumer in consumers {
        consumer.await.unwrap();
    }
    bus.close().await;
    vhost.delete().await;
    rates
}

async fn publish(bus: &Bus, route: &JobRoute, messages: usize) {
    let body = encode(Uuid::nil(), samples::time(), &samples::job())
        .unwrap()
        .to_string()
        .into_bytes();
    futures_util::stream::iter(0..messages)
        .map(|_| {
            let message = Outgoing {
                route: route.clone().into(),
                message_id: Uuid::now_v7(),
                body: body.clone(),
            };
            let publisher = bus.publisher();
            async move { publisher.publish(message).await.unwrap() }
        })
        .buffer_unordered(PUBLISHERS)
        .collect::<()>()
        .await;
}

async fn consume(bus: Bus, queue: String, done: Arc<AtomicUsize>, stop: CancellationToken) {
    let body = encode(Uuid::nil(), samples::time(), &samples::finished())
        .unwrap()
        .to_string()
        .into_bytes();
    let publisher = bus.publisher();
    let options = ConsumerOptions {
        prefetch: 1,
        ..ConsumerOptions::new(queue, 1)
    };
    run_consumer(&bus, options, stop, move |_| {
        let (publisher, done) = (publisher.clone(), done.clone());
        let message = Outgoing {
            route: Route::AttemptFinished,
            message_id: Uuid::now_v7(),
            body: body.clone(),
        };
        async move {
            publisher.publish(message).await.unwrap();
            done.fetch_add(1, Ordering::SeqCst);
            Verdict::Done
        }
    })
    .await;
}
