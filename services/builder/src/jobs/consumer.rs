//! Takes jobs from RabbitMQ while there is room for them.
//!
//! A delivery is acknowledged as soon as its claim is recorded, not after the build. RabbitMQ closes a channel whose
//! consumer keeps a delivery unacknowledged longer than a timeout (30 minutes unless configured) and then requeues
//! *everything* on that channel, and builds last hours. So the message is only a ticket: from the claim on, the
//! lease in PostgreSQL says who has what, heartbeats extend it, and an order that is delivered a second time is
//! recognised or loses the claim.
//!
//! A class of memory is consumed, one delivery at a time, while the free room exceeds the class's lower end. When a
//! delivery arrives its room is reserved first, then the consumers that do not fit any more are stopped, and only
//! then is it claimed and acknowledged; as long as it is unacknowledged its queue hands out nothing else. What
//! arrived from another queue at the same moment and does not fit is declined. A builder that is reserved for a large
//! task consumes only from classes that may hold it, and only once the room for it is there.

use std::sync::Arc;

use millrace_bus::{Bus, Delivery, JobConsumer, JobRoute, Verdict};
use millrace_chassis::crash_point;
use millrace_domain::{MemoryClass, MemoryClasses};
use millrace_wire::{DeclineReason, JobV1};
use tokio::sync::mpsc;
use tracing::Instrument as _;

use crate::attempt;
use crate::context::Context;
use crate::jobs::claim;

/// The most attempts that this builder holds, those that wait for the frontend included. Beyond it takes no jobs: a
/// frontend that accepts no results for a long time must not fill the spool.
const MAX_ATTEMPTS: usize = 2000;

/// The consumer of one job queue: one architecture and one class of memory.
struct QueueConsumer {
    class: MemoryClass,
    consumer: JobConsumer,
    is_consuming: bool,
}

/// The consumers of all job queues that this builder may take jobs from.
pub struct JobConsumers {
    ctx: Arc<Context>,
    queues: Vec<QueueConsumer>,
    deliveries: mpsc::Receiver<Delivery>,
}

impl JobConsumers {
    /// Consumers for these architectures and classes, none of which consumes yet.
    pub fn new(ctx: Arc<Context>, bus: &Bus, archs: &[String], classes: &MemoryClasses) -> Self {
        let count = archs.len() * classes.all().len();
        let (sender, deliveries) = mpsc::channel(count.max(1));
        let queues = archs
            .iter()
            .flat_map(|arch| classes.all().iter().map(move |class| (arch, class)))
            .map(|(arch, class)| QueueConsumer {
                class: class.clone(),
                consumer: JobConsumer::spawn(
                    bus,
                    JobRoute::new(arch, class).queue(),
                    sender.clone(),
                ),
                is_consuming: false,
            })
            .collect();
        Self {
            ctx,
            queues,
            deliveries,
        }
    }

    /// Takes jobs until the stop; deliveries that are not claimed by then are declined.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let shutdown = self.ctx.shutdown.clone();
        let mut room = self.ctx.room.changes();
        loop {
            self.adapt_to_room().await;
            tokio::select! {
                biased;
                () = shutdown.stopping() => break,
                delivery = self.deliveries.recv() => match delivery {
                    Some(delivery) => self.accept(delivery).await,
                    None => anyhow::bail!("the job consumers ended"),
                },
                changed = room.changed() => changed?,
            }
        }
        self.close().await;
        Ok(())
    }

    /// Starts the consumers of classes that may fit and stops the others.
    async fn adapt_to_room(&mut self) {
        let free = self.ctx.room.free();
        let is_full = self.ctx.registry.count() >= MAX_ATTEMPTS;
        let mut arrived = Vec::new();
        for queue in &mut self.queues {
            let fits = !is_full && free.may_fit(&queue.class);
            if fits && !queue.is_consuming {
                queue.consumer.start().await;
            } else if !fits && queue.is_consuming {
                arrived.extend(queue.consumer.stop().await);
            }
            queue.is_consuming = fits;
        }
        for delivery in arrived {
            self.decline(delivery, DeclineReason::NoRoom);
        }
    }

    /// Reserves room for a delivered job and has it claimed, or declined when it does not fit.
    async fn accept(&mut self, delivery: Delivery) {
        let Some((job, delivery)) = self.decode(delivery) else {
            return;
        };
        crash_point("order.delivered");
        if self.ctx.registry.contains(job.attempt_id) {
            // The acknowledgement of an earlier delivery was lost.
            return self.acknowledge(delivery).await;
        }
        let ctx = Arc::clone(&self.ctx);
        match ctx.room.reserve(job.limits.memory_mib) {
            Some(reservation) => {
                self.adapt_to_room().await;
                let tracker = ctx.shutdown.tracker().clone();
                let span = attempt::span(job.attempt_id);
                let claimed = claim::claim_and_run(ctx, job, delivery, reservation);
                tracker.spawn(claimed.instrument(span));
            }
            None => self.spawn_decline(job, delivery, DeclineReason::NoRoom),
        }
    }

    fn decline(&self, delivery: Delivery, reason: DeclineReason) {
        if let Some((job, delivery)) = self.decode(delivery) {
            self.spawn_decline(job, delivery, reason);
        }
    }

    fn spawn_decline(&self, job: JobV1, delivery: Delivery, reason: DeclineReason) {
        let ctx = Arc::clone(&self.ctx);
        let tracker = self.ctx.shutdown.tracker();
        let span = attempt::span(job.attempt_id);
        tracker.spawn(claim::decline(ctx, job, delivery, reason).instrument(span));
    }

    /// Reads the job of a delivery. A message that cannot be decoded is parked with the reason, in the background, since
    /// the broker may not answer.
    fn decode(&self, delivery: Delivery) -> Option<(JobV1, Delivery)> {
        match delivery.decode::<JobV1>() {
            Ok(envelope) => Some((envelope.body, delivery)),
            Err(verdict) => {
                let settled = async move {
                    if delivery.settle(verdict).await.is_err() {
                        tracing::debug!(
                            "a message that cannot be decoded was requeued with its channel"
                        );
                    }
                };
                self.ctx.shutdown.tracker().spawn(settled);
                None
            }
        }
    }

    async fn acknowledge(&self, delivery: Delivery) {
        if delivery.settle(Verdict::Done).await.is_err() {
            tracing::debug!("the acknowledgement of a repeated delivery was lost");
        }
    }

    /// Stops all consumers and declines what they had received.
    async fn close(&mut self) {
        let mut arrived = Vec::new();
        for queue in &self.queues {
            arrived.extend(queue.consumer.stop().await);
        }
        while let Ok(delivery) = self.deliveries.try_recv() {
            arrived.push(delivery);
        }
        for delivery in arrived {
            self.decline(delivery, DeclineReason::Stopping);
        }
    }
}
