//! Takes orders from RabbitMQ while there is room for them.
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
//! arrived from another queue at the same moment and does not fit is declined. A builder that is kept free for a large
//! task consumes only from classes that may hold it, and only once the room for it is there.

use std::sync::Arc;

use millrace_bus::{Bus, Delivery, JobConsumer, JobRoute, Verdict};
use millrace_chassis::crash_point;
use millrace_domain::{MemoryClass, MemoryClasses};
use millrace_wire::{DeclineReason, JobV1};
use tokio::sync::mpsc;

use crate::context::Context;
use crate::jobs::claim;

/// Attempts that this builder keeps, those on the finish line included. Beyond that nothing new is taken: a
/// frontend that accepts no results for long must not fill the spool.
const MAX_ATTEMPTS: usize = 2000;

/// One job queue.
struct QueueConsumer {
    class: MemoryClass,
    consumer: JobConsumer,
    open: bool,
}

/// Consumes what fits.
pub struct JobConsumers {
    ctx: Arc<Context>,
    queues: Vec<QueueConsumer>,
    deliveries: mpsc::Receiver<Delivery>,
}

impl JobConsumers {
    /// An intake for these architectures and classes, closed at first.
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
                open: false,
            })
            .collect();
        Self {
            ctx,
            queues,
            deliveries,
        }
    }

    /// Takes orders until the stop; what was delivered by then is declined.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let shutdown = self.ctx.shutdown.clone();
        let mut room = self.ctx.room.changes();
        loop {
            self.open_and_close().await;
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

    /// Opens the lanes that may fit and closes the others.
    async fn open_and_close(&mut self) {
        let free = self.ctx.room.free();
        let is_full = self.ctx.registry.count() >= MAX_ATTEMPTS;
        let mut arrived = Vec::new();
        for queue in &mut self.queues {
            let fits = !is_full && free.may_fit(&queue.class);
            if fits && !queue.open {
                queue.consumer.start().await;
            } else if !fits && queue.open {
                arrived.extend(queue.consumer.stop().await);
            }
            queue.open = fits;
        }
        for delivery in arrived {
            self.decline(delivery, DeclineReason::NoRoom);
        }
    }

    async fn accept(&mut self, delivery: Delivery) {
        let Some((job, delivery)) = self.decode(delivery) else {
            return;
        };
        crash_point!("order.delivered");
        if self.ctx.registry.knows(job.attempt_id) {
            // The acknowledgement of an earlier delivery was lost.
            return self.acknowledge(delivery).await;
        }
        let ctx = Arc::clone(&self.ctx);
        match ctx.room.reserve(job.limits.memory_mib) {
            Some(reservation) => {
                self.open_and_close().await;
                let tracker = ctx.shutdown.tracker().clone();
                tracker.spawn(claim::claim_and_run(ctx, job, delivery, reservation));
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
        tracker.spawn(claim::decline(ctx, job, delivery, reason));
    }

    /// What cannot be understood is parked with the reason, in the background: the broker may be away.
    fn decode(&self, delivery: Delivery) -> Option<(JobV1, Delivery)> {
        match delivery.decode::<JobV1>() {
            Ok(envelope) => Some((envelope.body, delivery)),
            Err(verdict) => {
                let settled = async move {
                    if delivery.settle(verdict).await.is_err() {
                        tracing::debug!("a message that cannot be read went back with its channel");
                    }
                };
                self.ctx.shutdown.tracker().spawn(settled);
                None
            }
        }
    }

    async fn acknowledge(&self, delivery: Delivery) {
        if delivery.settle(Verdict::Done).await.is_err() {
            tracing::debug!("an acknowledgement was lost again");
        }
    }

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
