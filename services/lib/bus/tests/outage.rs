//! The broker restarts, freezes and raises an alarm. Each test has a broker of its own, so that no other test is
//! disturbed.

#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    reason = "in a test a failure is an answer"
)]

mod common;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{builder, depth, frontend, listen, next, outgoing, small_jobs, stranger, until};
use millrace_bus::testing::TestVhost;
use millrace_bus::{
    Delivery, EVENTS_QUEUE, JobConsumer, LinkState, Outgoing, PublishError, Publisher, Route,
    Verdict,
};
use millrace_domain::BuilderId;
use tokio::sync::mpsc;

/// A broker in a container that goes away with the test.
struct Broker {
    name: String,
    port: u16,
}

impl Broker {
    fn start(word: &str, port: u16) -> Self {
        let broker = Self {
            name: format!("millrace-test-rabbitmq-{word}"),
            port,
        };
        broker.script("stop");
        broker.script("start");
        broker
    }

    fn script(&self, order: &str) {
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../scripts/test-rabbitmq"
        );
        run(Command::new(script)
            .arg(order)
            .env("MILLRACE_TEST_RABBITMQ_NAME", &self.name)
            .env("MILLRACE_TEST_RABBITMQ_PORT", self.port.to_string())
            .env(
                "MILLRACE_TEST_RABBITMQ_API_PORT",
                (self.port + 1).to_string(),
            ));
    }

    async fn docker(&self, arguments: &[&str]) {
        let mut command = Command::new("docker");
        command.args(arguments);
        let done = tokio::task::spawn_blocking(move || run(&mut command));
        done.await.unwrap();
    }

    async fn memory_limit(&self, fraction: &str) {
        let order = [
            "rabbitmqctl",
            "-q",
            "set_vm_memory_high_watermark",
            fraction,
        ];
        self.docker(&[&["exec", self.name.as_str()], &order[..]].concat())
            .await;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.script("stop");
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// As the relay and the spool do it: the same message until the broker has it.
async fn publish_surely(publisher: &Publisher, message: Outgoing) {
    loop {
        publisher.ready().await;
        if publisher.publish(message.clone()).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_back_by_itself_after_the_broker_restarts() {
    let broker = Broker::start("restart", 56_739);
    let vhost = TestVhost::create_on(broker.port).await;
    let front = frontend(&vhost).await;
    let builder = builder(&vhost, BuilderId::generate()).await;

    // Jobs go out, the builder acknowledges each and reports it, the frontend counts reports by id.
    let (mut reports, _stop) = listen(&front, EVENTS_QUEUE, |_| Verdict::Done);
    let (deliveries, mut jobs) = mpsc::channel::<Delivery>(1);
    let consumer = JobConsumer::spawn(&builder, small_jobs().queue(), deliveries);
    consumer.start().await;
    let publisher = builder.publisher();
    tokio::spawn(async move {
        while let Some(delivery) = jobs.recv().await {
            let id = delivery.message_id.clone().unwrap();
            let report = Outgoing {
                route: Route::AttemptFinished,
                message_id: id.parse().unwrap(),
                body: delivery.body.clone(),
            };
            publish_surely(&publisher, report).await;
            // A lost delivery comes again and is reported again under the same id.
            let _ = delivery.ack().await;
        }
    });
    let publisher = front.publisher();
    let (announce, halfway) = tokio::sync::oneshot::channel();
    let jobs_out = tokio::spawn(async move {
        let mut announce = Some(announce);
        for n in 0..400u32 {
            publish_surely(&publisher, outgoing(small_jobs(), n.to_string())).await;
            if n == 100 {
                announce.take().unwrap().send(()).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    halfway.await.unwrap();
    broker.docker(&["restart", "-t", "20", &broker.name]).await;
    let restarted = Instant::now();
    until("both are up again", async || {
        front.is_up() && builder.is_up()
    })
    .await;
    println!(
        "up again {:?} after the container was started",
        restarted.elapsed()
    );
    jobs_out.await.unwrap();

    let mut seen: BTreeMap<u32, u32> = BTreeMap::new();
    while seen.len() < 400 {
        let report = next(&mut reports).await;
        let n = String::from_utf8(report.body.clone())
            .unwrap()
            .parse()
            .unwrap();
        *seen.entry(n).or_default() += 1;
    }
    let again: u32 = seen.values().map(|times| times - 1).sum();
    println!("400 jobs were reported, {again} reports came more than once");
    assert!(
        again < 50,
        "only what was in flight may come twice, not {again}"
    );
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_is_shown_stops_publishing_and_does_not_stop_acknowledging() {
    let broker = Broker::start("alarm", 56_749);
    let vhost = TestVhost::create_on(broker.port).await;
    let front = frontend(&vhost).await;
    for n in 0..3u32 {
        let message = outgoing(Route::AttemptFinished, n.to_string());
        front.publisher().publish(message).await.unwrap();
    }
    broker.memory_limit("0").await;
    let mut last = Ok(());
    until("the alarm is seen", async || {
        last = front
            .publisher()
            .publish(outgoing(small_jobs(), b"late"))
            .await;
        matches!(last, Err(PublishError::Blocked(_)))
    })
    .await;
    assert!(matches!(
        *front.publishing().borrow(),
        LinkState::Blocked { .. }
    ));
    assert!(!front.is_up());
    let (mut reports, stop) = listen(&front, EVENTS_QUEUE, |_| Verdict::Done);
    for _ in 0..3 {
        next(&mut reports).await;
    }
    stop.and_wait().await;
    broker.memory_limit("0.6").await;
    until("the alarm is over", async || front.is_up()).await;
    let message = outgoing(small_jobs(), b"after");
    front.publisher().publish(message).await.unwrap();
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_costs_a_deadline_and_not_the_publisher() {
    let broker = Broker::start("frozen", 56_759);
    let vhost = TestVhost::create_on(broker.port).await;
    let front = frontend(&vhost).await;
    let (_connection, channel) = stranger(&vhost).await;
    let queue = small_jobs().queue();
    publish_surely(&front.publisher(), outgoing(small_jobs(), b"before")).await;
    let before = depth(&channel, &queue).await;
    // A short freeze costs the publish in flight; its channel is replaced, its connection lives on.
    let link = front.publishing();
    broker.docker(&["pause", &broker.name]).await;
    let error = front
        .publisher()
        .publish(outgoing(small_jobs(), b"slow"))
        .await
        .unwrap_err();
    assert!(matches!(error, PublishError::Deadline(_)), "{error}");
    broker.docker(&["unpause", &broker.name]).await;
    until("unknown turned out to be stored", async || {
        depth(&channel, &queue).await == before + 1
    })
    .await;
    publish_surely(&front.publisher(), outgoing(small_jobs(), b"thawed")).await;
    assert!(!link.has_changed().unwrap(), "the connection lives on");

    // A long one costs the connection.
    broker.docker(&["pause", &broker.name]).await;
    let began = Instant::now();
    let error = front
        .publisher()
        .publish(outgoing(small_jobs(), b"frozen"))
        .await
        .unwrap_err();
    assert!(matches!(error, PublishError::Deadline(_)), "{error}");
    assert!(!error.is_certainly_unsent());
    // The deadline is 5 s; a call to a channel would end after 10 s, the connection after 20 s.
    assert!(began.elapsed() < Duration::from_secs(9));
    // The next one finds no channel on it; the connection is given up and said to be down.
    let error = front
        .publisher()
        .publish(outgoing(small_jobs(), b"frozen"))
        .await
        .unwrap_err();
    assert!(error.is_certainly_unsent(), "{error}");
    until("it is shown", async || !front.is_up()).await;
    broker.docker(&["unpause", &broker.name]).await;
    until("it is up again", async || front.is_up()).await;
    publish_surely(&front.publisher(), outgoing(small_jobs(), b"after")).await;
    vhost.delete().await;
}
