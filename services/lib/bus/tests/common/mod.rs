//! What the tests of this crate share.

#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test binary uses a part of it, and a helper's failure is the test's"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use millrace_bus::testing::TestVhost;
use millrace_bus::{
    Bus, BusConfig, ConsumerOptions, Incoming, JobRoute, Outgoing, PARKED_QUEUE, Route, Topology,
    Verdict, run_consumer,
};
use millrace_domain::{BuilderId, MemoryClasses};
use secrecy::ExposeSecret;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn classes() -> MemoryClasses {
    MemoryClasses::from_upper_ends(&[2]).unwrap()
}

pub fn small_jobs() -> JobRoute {
    JobRoute::new("x86_64", &classes().all()[0])
}

pub async fn frontend(vhost: &TestVhost) -> Bus {
    let config = BusConfig::new(&vhost.frontend_url(), "frontend").unwrap();
    let bus = Bus::start(config, Topology::frontend(["x86_64"], &classes()));
    bus.wait_up(PATIENCE).await.unwrap();
    bus
}

pub async fn builder(vhost: &TestVhost, id: BuilderId) -> Bus {
    let config = BusConfig::new(&vhost.builder_url(), "builder").unwrap();
    let bus = Bus::start(config, Topology::builder(id));
    bus.wait_up(PATIENCE).await.unwrap();
    bus
}

/// A channel of someone who may do everything and cares for nothing.
pub async fn stranger(vhost: &TestVhost) -> (Connection, Channel) {
    let url = vhost.admin_url();
    let connection =
        Connection::connect(url.expose_secret(), ConnectionProperties::default()).await;
    let connection = connection.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

pub async fn put(channel: &Channel, exchange: &str, key: &str, body: &[u8]) {
    let options = BasicPublishOptions::default();
    let properties = BasicProperties::default().with_delivery_mode(2);
    let sent = channel.basic_publish(exchange.into(), key.into(), options, body, properties);
    sent.await.unwrap().await.unwrap();
}

/// Messages ready in a queue; its declaration is not touched.
pub async fn depth(channel: &Channel, queue: &str) -> u32 {
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare(queue.into(), options, FieldTable::default());
    declared.await.unwrap().message_count()
}

pub fn outgoing(route: impl Into<Route>, body: impl Into<Vec<u8>>) -> Outgoing {
    Outgoing {
        route: route.into(),
        message_id: Uuid::now_v7(),
        body: body.into(),
    }
}

/// A consumer whose messages come out of the receiver; each gets the verdict that `judge` finds.
pub fn listen(
    bus: &Bus,
    queue: &str,
    judge: impl Fn(&Incoming) -> Verdict + Send + Sync + 'static,
) -> (mpsc::UnboundedReceiver<Arc<Incoming>>, Stop) {
    let (out, receiver) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let (bus, options, token) = (bus.clone(), ConsumerOptions::new(queue, 2), stop.clone());
    let judge = Arc::new(judge);
    let task = tokio::spawn(async move {
        run_consumer(&bus, options, token, move |incoming: Arc<Incoming>| {
            let (out, judge) = (out.clone(), judge.clone());
            async move {
                let verdict = judge(&incoming);
                let _ = out.send(incoming);
                verdict
            }
        })
        .await;
    });
    (receiver, Stop { stop, task })
}

pub struct Stop {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Stop {
    pub async fn and_wait(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .unwrap()
            .unwrap();
    }
}

pub fn parked(bus: &Bus) -> (mpsc::UnboundedReceiver<Arc<Incoming>>, Stop) {
    listen(bus, PARKED_QUEUE, |_| Verdict::Done)
}

pub async fn next<T>(receiver: &mut mpsc::UnboundedReceiver<T>) -> T {
    tokio::time::timeout(PATIENCE, receiver.recv())
        .await
        .expect("a message in time")
        .expect("an open channel")
}

/// Looks again and again until it is so.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
