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
/// A consumer that ran for this long counts as a success: the backoff begins anew.
const GOOD_LIFE: Duration = Duration::from_secs(5);

/// A call of the consumer's owner, for its task.
enum ConsumerCommand {
    Start,
    Stop(oneshot::Sender<Vec<Delivery>>),
}

/// The consumer of one job queue; stopped at first. Dropping it ends it, and unsettled deliveries go back.
pub struct JobConsumer {
    queue: String,
    commands: mpsc::Sender<ConsumerCommand>,
}

impl JobConsumer {
    /// `deliveries` should have room for one delivery of each queue that shares it.
    pub fn spawn(bus: &Bus, queue: String, deliveries: mpsc::Sender<Delivery>) -> Self {
        let (commands, inbox) = mpsc::channel(8);
        let task = JobTask {
            bus: bus.clone(),
            queue: queue.clone(),
            deliveries,
            channel: None,
            backoff: Backoff::for_reconnecting(),
        };
        tokio::spawn(task.run(inbox));
        Self { queue, commands }
    }

    /// Name of the job queue, such as `millrace.jobs.x86_64.2g`.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// Begins to consume as soon as the broker and the queue are there; returns at once. A second start changes
    /// nothing.
    pub async fn start(&self) {
        // The task only ends when the bus is closed or the deliveries' receiver is gone.
        let _ = self.commands.send(ConsumerCommand::Start).await;
    }

    /// Stops consuming. Returns the deliveries that had arrived and were not passed on: decline each, then acknowledge
    /// it.
    pub async fn stop(&self) -> Vec<Delivery> {
        let (reply, answer) = oneshot::channel();
        if self
            .commands
            .send(ConsumerCommand::Stop(reply))
            .await
            .is_err()
        {
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

/// How a period of consuming ended.
enum Ended {
    Stopped(oneshot::Sender<Vec<Delivery>>, Vec<Delivery>),
    Abandoned,
}

impl JobTask {
    async fn run(mut self, mut inbox: mpsc::Receiver<ConsumerCommand>) {
        while let Some(command) = inbox.recv().await {
            match command {
                ConsumerCommand::Stop(reply) => {
                    let _ = reply.send(Vec::new());
                }
                ConsumerCommand::Start => match self.consume(&mut inbox).await {
                    Ended::Stopped(reply, arrived) => {
                        // Where the caller has gone, the end of the channel gives the deliveries back.
                        if reply.send(arrived).is_err() {
                            self.channel = None;
                        }
                    }
                    Ended::Abandoned => return,
                },
            }
        }
    }

    /// Consumes until the command to stop, with a new channel after each failure.
    async fn consume(&mut self, inbox: &mut mpsc::Receiver<ConsumerCommand>) -> Ended {
        loop {
            let link = self.bus.consuming_link().clone();
            tokio::select! {
                stop = stop_command(inbox) => return ended(stop, Vec::new()),
                () = link.up() => {}
            }
            // Not to be interrupted: a consumer that started unseen would hold a job that no handler gets.
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
                stop = stop_command(inbox) => return ended(stop, Vec::new()),
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
        inbox: &mut mpsc::Receiver<ConsumerCommand>,
    ) -> Result<Ended, Fault> {
        loop {
            let delivery = tokio::select! {
                stop = stop_command(inbox) => {
                    return Ok(self.stopped(subscription, stop, None).await);
                }
                delivery = subscription.next() => delivery?,
            };
            tokio::select! {
                permit = self.deliveries.reserve() => match permit {
                    Ok(permit) => permit.send(delivery),
                    Err(_) => return Ok(Ended::Abandoned),
                },
                stop = stop_command(inbox) => {
                    return Ok(self.stopped(subscription, stop, Some(delivery)).await);
                }
            }
        }
    }

    async fn stopped(
        &self,
        subscription: Subscription,
        stop: Option<oneshot::Sender<Vec<Delivery>>>,
        in_hand: Option<Delivery>,
    ) -> Ended {
        let (arrived, cancelled) = subscription.cancel().await;
        if let Err(fault) = cancelled {
            tracing::debug!(queue = self.queue, %fault, "the consumer could not be cancelled");
        }
        ended(stop, in_hand.into_iter().chain(arrived).collect())
    }
}

fn ended(stop: Option<oneshot::Sender<Vec<Delivery>>>, arrived: Vec<Delivery>) -> Ended {
    match stop {
        Some(reply) => Ended::Stopped(reply, arrived),
        None => Ended::Abandoned,
    }
}

/// The next command to stop; none once the consumer was dropped. Cancel safe: commands to start are ignored.
async fn stop_command(
    inbox: &mut mpsc::Receiver<ConsumerCommand>,
) -> Option<oneshot::Sender<Vec<Delivery>>> {
    loop {
        match inbox.recv().await? {
            ConsumerCommand::Start => {}
            ConsumerCommand::Stop(reply) => return Some(reply),
        }
    }
}
