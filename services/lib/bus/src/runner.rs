//! A consumer that runs until it is told to stop: handlers return verdicts, the runner carries them out.
//!
//! When the channel or connection ends, unsettled deliveries are handed out again by the broker, so a handler may
//! see a message twice and must recognise it.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_domain::Backoff;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::bus::Bus;
use crate::delivery::{Delivery, Incoming, Verdict};
use crate::fault::Fault;
use crate::subscription::{ConsumerChannel, Subscription};
use crate::topology::PARKED_QUEUE;

/// How long handlers at work may finish after the stop.
const GRACE: Duration = Duration::from_secs(10);
/// A consumer that lived this long was a good one: the next back-off begins anew.
const GOOD_LIFE: Duration = Duration::from_secs(5);

/// What to consume, and how much at once.
#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    /// The queue.
    pub queue: String,
    /// Deliveries the broker hands out before the first is settled.
    pub prefetch: u16,
    /// Handlers at work at the same time.
    pub concurrency: usize,
    /// How long a delivery is kept for [`Verdict::Again`] before it goes back to the queue. Must be shorter than
    /// the broker's delivery-acknowledgement timeout, 30 minutes.
    pub hold: Duration,
}

impl ConsumerOptions {
    /// So many handlers at once, twice as many deliveries, held for at most 10 minutes.
    pub fn new(queue: impl Into<String>, concurrency: usize) -> Self {
        let concurrency = concurrency.max(1);
        Self {
            queue: queue.into(),
            prefetch: u16::try_from(concurrency.saturating_mul(2)).unwrap_or(u16::MAX),
            concurrency,
            hold: Duration::from_mins(10),
        }
    }
}

/// Consumes a queue until `stop`; comes back by itself after whatever ends a consumer.
///
/// [`Verdict::Again`] keeps the delivery and asks the handler again, after 0.5 s and then ever longer up to 10 s.
/// A message on which the handler panics is parked.
pub async fn run_consumer<H, F>(
    bus: &Bus,
    options: ConsumerOptions,
    stop: CancellationToken,
    handler: H,
) where
    H: Fn(Arc<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Verdict> + Send + 'static,
{
    let runner = Runner {
        handler: Arc::new(handler),
        options,
        stop,
    };
    let mut running = JoinSet::new();
    let mut backoff = Backoff::for_reconnecting();
    while let Some(opened) = runner.or_stop(runner.open(bus)).await {
        let fault = match opened {
            Ok(subscription) => {
                let began = Instant::now();
                let Some(fault) = runner.consume(subscription, &mut running).await else {
                    break;
                };
                if began.elapsed() >= GOOD_LIFE {
                    backoff.reset();
                }
                fault
            }
            Err(fault) => fault,
        };
        runner.after(&fault, bus).await;
        if runner
            .or_stop(tokio::time::sleep(backoff.delay(rand::random())))
            .await
            .is_none()
        {
            break;
        }
    }
    let rest = async { while running.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, rest).await.is_err() {
        tracing::warn!(
            queue = runner.options.queue,
            "handlers did not finish in time; their messages go back to the queue"
        );
    }
}

struct Runner<H> {
    handler: Arc<H>,
    options: ConsumerOptions,
    stop: CancellationToken,
}

impl<H, F> Runner<H>
where
    H: Fn(Arc<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Verdict> + Send + 'static,
{
    /// None when the stop came first.
    async fn or_stop<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.stop.run_until_cancelled(work).await
    }

    async fn open(&self, bus: &Bus) -> Result<Subscription, Fault> {
        bus.consuming_link().up().await;
        let channel = ConsumerChannel::open(bus, self.options.prefetch).await?;
        let subscription = channel.consume(&self.options.queue).await?;
        tracing::debug!(queue = self.options.queue, "consuming");
        Ok(subscription)
    }

    /// Hands out deliveries until the subscription ends; none when it was the stop that ended it.
    async fn consume(
        &self,
        mut subscription: Subscription,
        running: &mut JoinSet<()>,
    ) -> Option<Fault> {
        let over = self.stop.child_token();
        let _ends = over.clone().drop_guard();
        loop {
            tokio::select! {
                () = over.cancelled() => {
                    return (!self.stop.is_cancelled())
                        .then(|| Fault::Gone("a delivery could not be settled".to_owned()));
                }
                Some(_) = running.join_next() => {}
                next = subscription.next(), if running.len() < self.options.concurrency => match next {
                    Ok(delivery) => {
                        running.spawn(handle(
                            delivery,
                            self.handler.clone(),
                            self.options.hold,
                            over.clone(),
                        ));
                    }
                    Err(fault) => return Some(fault),
                },
            }
        }
    }

    async fn after(&self, fault: &Fault, bus: &Bus) {
        let queue = &self.options.queue;
        tracing::warn!(queue, %fault, "the consumer ended; starting it again");
        if matches!(fault, Fault::Missing(_))
            && let Err(fault) = bus.redeclare().await
        {
            tracing::warn!(queue, %fault, "the missing queue could not be declared");
        }
    }
}

/// Asks the handler until it has a verdict, and carries it out.
async fn handle<H, F>(delivery: Delivery, handler: Arc<H>, hold: Duration, over: CancellationToken)
where
    H: Fn(Arc<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Verdict> + Send + 'static,
{
    let held_until = Instant::now() + hold;
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
    let verdict = loop {
        // A task of its own, so that a panic costs this message only.
        let asked = tokio::spawn(handler(delivery.incoming())).await;
        let verdict = verdict_for(&delivery, asked);
        let delay = backoff.delay(rand::random());
        if verdict != Verdict::Again || Instant::now() + delay >= held_until {
            break verdict;
        }
        let wait = over.run_until_cancelled(tokio::time::sleep(delay));
        if wait.await.is_none() {
            return;
        }
    };
    let settle = delivery.settle(verdict);
    // Parking waits for the broker, which may take longer than this session lives.
    if settle.await.is_err() {
        over.cancel();
    }
}

/// A panic is a reason to park. From the parked queue there is nowhere to park to.
fn verdict_for(delivery: &Delivery, asked: Result<Verdict, JoinError>) -> Verdict {
    let verdict =
        asked.unwrap_or_else(|_| Verdict::Park("the consumer failed on this message".to_owned()));
    match verdict {
        Verdict::Park(reason) if delivery.queue() == PARKED_QUEUE => {
            tracing::error!(
                reason,
                "a parked message cannot be parked again; it is kept"
            );
            Verdict::Again
        }
        verdict => verdict,
    }
}
