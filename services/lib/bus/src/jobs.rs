//! A job queue's consumer that a builder starts while it has room and stops when it has none.
//!
//! Deliveries that arrive while the consumer is being stopped are handed back to the builder, which declines them
//! and acknowledges: builders never requeue, because each requeue costs the message one of its deliveries.

use std::time::Duration;

use millrace_domain::Backoff;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::bus::Bus;
use crate::delivery::Delivery;
use crate::fault::Fault;
use crate::subscription::{ConsumerChannel, Subscription};

/// One job at a time: the next is handed out when the last was acknowledged.
const PREFETCH: u16 = 1;
/// A consumer that lived this long was a good one: the next back-off begins anew.
const GOOD_LIFE: Duration = Duration::from_secs(5);

enum Order {
    Start,
    Stop(oneshot::Sender<Vec<Delivery>>),
}

/// The consumer of one job queue; stopped at first. Dropping it ends it, and unsettled deliveries go back.
pub struct JobConsumer {
    queue: String,
    orders: mpsc::Sender<Order>,
}

impl JobConsumer {
    /// `deliveries` should have room for one delivery of each queue that shares it.
    pub fn spawn(bus: &Bus, queue: String, deliveries: mpsc::Sender<Delivery>) -> Self {
        let (orders, inbox) = mpsc::channel(8);
        let task = JobTask {
            bus: bus.clone(),
            queue: queue.clone(),
            deliveries,
            channel: None,
            backoff: Backoff::for_reconnecting(),
        };
        tokio::spawn(task.run(inbox));
        Self { queue, orders }
    }

    /// The queue's name.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// Begins to consume as soon as the broker and the queue are there; returns at once. Starting twice is
    /// starting once.
    pub async fn start(&self) {
        // The task only ends when the bus is closed or nobody takes deliveries any more.
        let _ = self.orders.send(Order::Start).await;
    }

    /// Stops consuming. What had arrived and was not yet passed on comes back: decline it, then acknowledge it.
    pub async fn stop(&self) -> Vec<Delivery> {
        let (reply, answer) = oneshot::channel();
        if self.orders.send(Order::Stop(reply)).await.is_err() {
            return Vec::new();
        }
        answer.await.unwrap_or_default()
    }
}

struct JobTask {
    bus: Bus,
    queue: String,
    deliveries: mpsc::Sender<Delivery>,
    channel: Option<ConsumerChannel>,
    backoff: Backoff,
}

/// How a time of consuming ended.
enum Ended {
    Stopped(oneshot::Sender<Vec<Delivery>>, Vec<Delivery>),
    Abandoned,
}

impl JobTask {
    async fn run(mut self, mut inbox: mpsc::Receiver<Order>) {
        while let Some(order) = inbox.recv().await {
            match order {
                Order::Stop(reply) => {
                    let _ = reply.send(Vec::new());
                }
                Order::Start => match self.consume(&mut inbox).await {
                    Ended::Stopped(reply, arrived) => {
                        // Who asked and went away leaves them to the channel: they are handed out again.
                        if reply.send(arrived).is_err() {
                            self.channel = None;
                        }
                    }
                    Ended::Abandoned => return,
                },
            }
        }
    }

    /// Consumes, again and again if need be, until the order to stop.
    async fn consume(&mut self, inbox: &mut mpsc::Receiver<Order>) -> Ended {
        loop {
            let link = self.bus.consuming_link().clone();
            tokio::select! {
                order = stop_order(inbox) => return ended(order, Vec::new()),
                () = link.up() => {}
            }
            // Not to be interrupted: a consumer that starts unseen would keep a job for nobody.
            let fault = match self.open().await {
                Ok(subscription) => {
                    let began = Instant::now();
                    let passed = self.pass_on(subscription, inbox).await;
                    if began.elapsed() >= GOOD_LIFE {
                        self.backoff.reset();
                    }
                    match passed {
                        Ok(ended) => return ended,
                        Err(fault) => fault,
                    }
                }
                Err(fault) => fault,
            };
            self.channel = None;
            tracing::warn!(queue = self.queue, %fault, "no jobs from this queue for now; trying again");
            tokio::select! {
                order = stop_order(inbox) => return ended(order, Vec::new()),
                () = tokio::time::sleep(self.backoff.delay(rand::random())) => {}
            }
        }
    }

    async fn open(&mut self) -> Result<Subscription, Fault> {
        let channel = match self.channel.take().filter(ConsumerChannel::is_open) {
            Some(channel) => channel,
            None => ConsumerChannel::open(&self.bus, PREFETCH).await?,
        };
        let subscription = channel.consume(&self.queue).await?;
        self.channel = Some(channel);
        Ok(subscription)
    }

    async fn pass_on(
        &self,
        mut subscription: Subscription,
        inbox: &mut mpsc::Receiver<Order>,
    ) -> Result<Ended, Fault> {
        loop {
            let delivery = tokio::select! {
                order = stop_order(inbox) => {
                    return Ok(self.stopped(subscription, order, None).await);
                }
                delivery = subscription.next() => delivery?,
            };
            tokio::select! {
                permit = self.deliveries.reserve() => match permit {
                    Ok(permit) => permit.send(delivery),
                    Err(_) => return Ok(Ended::Abandoned),
                },
                order = stop_order(inbox) => {
                    return Ok(self.stopped(subscription, order, Some(delivery)).await);
                }
            }
        }
    }

    async fn stopped(
        &self,
        subscription: Subscription,
        order: Option<oneshot::Sender<Vec<Delivery>>>,
        in_hand: Option<Delivery>,
    ) -> Ended {
        let (arrived, cancelled) = subscription.cancel().await;
        if let Err(fault) = cancelled {
            tracing::debug!(queue = self.queue, %fault, "the consumer could not be cancelled");
        }
        ended(order, in_hand.into_iter().chain(arrived).collect())
    }
}

fn ended(order: Option<oneshot::Sender<Vec<Delivery>>>, arrived: Vec<Delivery>) -> Ended {
    match order {
        Some(reply) => Ended::Stopped(reply, arrived),
        None => Ended::Abandoned,
    }
}

/// The next order to stop, or none when the consumer was dropped. Cancel safe: orders to start are ignored.
async fn stop_order(inbox: &mut mpsc::Receiver<Order>) -> Option<oneshot::Sender<Vec<Delivery>>> {
    loop {
        match inbox.recv().await? {
            Order::Start => {}
            Order::Stop(reply) => return Some(reply),
        }
    }
}
