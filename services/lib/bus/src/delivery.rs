//! A message handed out by the broker, and what a consumer says of it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicAckOptions, BasicNackOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Acker, Channel};
use millrace_domain::Backoff;
use millrace_wire::{Envelope, Message};

use crate::error::DeliveryLost;
use crate::fault::within;
use crate::publisher::{Parking, Publisher, QUEUE_HEADER, REASON_HEADER};

/// What a consumer says of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Dealt with: acknowledge it.
    Done,
    /// Not possible for now; the same message again later.
    Again,
    /// Cannot be understood: put it aside for a human, with this reason.
    Park(String),
}

/// A message as a handler sees it, without anything to settle it with.
#[derive(Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The message's bytes.
    pub body: Vec<u8>,
    /// The id it was published under.
    pub message_id: Option<String>,
    /// Whether it may have been handed out before.
    pub redelivered: bool,
    /// How often it was handed out before; only quorum queues count.
    pub delivery_count: u64,
    /// On the parked queue: where it was parked, and why.
    pub origin: Option<ParkedOrigin>,
}

/// Where a parked message comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedOrigin {
    /// The queue it was taken from.
    pub queue: Option<String>,
    /// Why it was parked.
    pub reason: String,
}

impl Incoming {
    /// Reads the one kind of message that the queue carries, or tells to park it with the reason.
    pub fn decode<B: Message>(&self) -> Result<Envelope<B>, Verdict> {
        millrace_wire::decode(&self.body).map_err(|error| Verdict::Park(error.to_string()))
    }

    pub(crate) fn new(delivery: &mut lapin::message::Delivery) -> Self {
        let none = FieldTable::default();
        let headers = delivery.properties.headers().as_ref().unwrap_or(&none);
        Self {
            message_id: delivery
                .properties
                .message_id()
                .as_ref()
                .map(ToString::to_string),
            redelivered: delivery.redelivered,
            delivery_count: number(headers, "x-delivery-count").unwrap_or(0),
            origin: ParkedOrigin::read(headers),
            body: std::mem::take(&mut delivery.data),
        }
    }
}

/// Bodies carry lease tokens, so only their size is shown.
impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("bytes", &self.body.len())
            .field("message_id", &self.message_id)
            .field("redelivered", &self.redelivered)
            .field("delivery_count", &self.delivery_count)
            .field("origin", &self.origin)
            .finish()
    }
}

impl ParkedOrigin {
    fn read(headers: &FieldTable) -> Option<Self> {
        if let Some(reason) = text(headers, REASON_HEADER) {
            let queue = text(headers, QUEUE_HEADER);
            return Some(Self { queue, reason });
        }
        let queue = text(headers, "x-first-death-queue");
        let word = text(headers, "x-first-death-reason")?;
        let from = queue.as_deref().unwrap_or("an unknown queue");
        let reason = match word.as_str() {
            "delivery_limit" => format!("delivery limit reached on {from}"),
            "rejected" => format!("rejected on {from}"),
            "expired" => format!("expired on {from}"),
            other => format!("dead-lettered ({other}) on {from}"),
        };
        Some(Self { queue, reason })
    }
}

fn text(headers: &FieldTable, name: &str) -> Option<String> {
    match headers.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

fn number(headers: &FieldTable, name: &str) -> Option<u64> {
    match headers.inner().get(name)? {
        AMQPValue::LongLongInt(n) => u64::try_from(*n).ok(),
        AMQPValue::LongInt(n) => u64::try_from(*n).ok(),
        AMQPValue::ShortInt(n) => u64::try_from(*n).ok(),
        AMQPValue::ShortShortInt(n) => u64::try_from(*n).ok(),
        AMQPValue::LongUInt(n) => Some((*n).into()),
        AMQPValue::ShortUInt(n) => Some((*n).into()),
        AMQPValue::ShortShortUInt(n) => Some((*n).into()),
        _ => None,
    }
}

/// A message that must be settled. Dropped unsettled, it stays with this process until its channel ends; then the
/// broker hands it out again.
#[must_use = "an unsettled delivery blocks its consumer until the channel ends"]
pub struct Delivery {
    incoming: Arc<Incoming>,
    queue: Arc<str>,
    acker: Acker,
    /// Keeps the channel open until the delivery is settled.
    _channel: Arc<Channel>,
    publisher: Publisher,
    deadline: Duration,
}

impl Delivery {
    pub(crate) fn new(
        mut delivery: lapin::message::Delivery,
        queue: Arc<str>,
        channel: Arc<Channel>,
        publisher: Publisher,
        deadline: Duration,
    ) -> Self {
        Self {
            incoming: Arc::new(Incoming::new(&mut delivery)),
            queue,
            acker: delivery.acker,
            _channel: channel,
            publisher,
            deadline,
        }
    }

    /// The queue it came from.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// The message, to be shared with a handler.
    pub fn incoming(&self) -> Arc<Incoming> {
        self.incoming.clone()
    }

    /// Takes the message off its queue.
    pub async fn ack(self) -> Result<(), DeliveryLost> {
        let call = self.acker.ack(BasicAckOptions::default());
        self.settled(within(self.deadline, "basic.ack", call).await)
    }

    /// Puts the message aside with a reason, then acknowledges it. Tries until the broker has confirmed the
    /// parked copy or the delivery is lost.
    pub async fn park(self, reason: &str) -> Result<(), DeliveryLost> {
        tracing::warn!(
            queue = &*self.queue,
            message.id = self.incoming.message_id.as_deref().unwrap_or("none"),
            reason,
            "a message is parked"
        );
        let mut backoff = Backoff::for_reconnecting();
        loop {
            let parking = Parking {
                queue: &self.queue,
                reason,
                message_id: self.incoming.message_id.as_deref(),
                body: &self.incoming.body,
            };
            match self.publisher.park(parking).await {
                Ok(()) => return self.ack().await,
                Err(_) if !self.acker.usable() => return Err(DeliveryLost),
                Err(error) => {
                    tracing::warn!(%error, "a message could not be parked yet; trying again");
                }
            }
            tokio::time::sleep(backoff.delay(rand::random())).await;
        }
    }

    /// Carries out a verdict; [`Verdict::Again`] gives the message back to the queue at once.
    pub async fn settle(self, verdict: Verdict) -> Result<(), DeliveryLost> {
        match verdict {
            Verdict::Done => self.ack().await,
            Verdict::Park(reason) => self.park(&reason).await,
            Verdict::Again => {
                let options = BasicNackOptions {
                    requeue: true,
                    ..BasicNackOptions::default()
                };
                let call = self.acker.nack(options);
                self.settled(within(self.deadline, "basic.nack", call).await)
            }
        }
    }

    /// A written acknowledgement is all that AMQP tells; `Ok(false)` is the closed channel's way to say no.
    fn settled<E: fmt::Display>(&self, answer: Result<bool, E>) -> Result<(), DeliveryLost> {
        match answer {
            Ok(true) => Ok(()),
            Ok(false) => Err(DeliveryLost),
            Err(fault) => {
                tracing::debug!(queue = &*self.queue, %fault, "a delivery could not be settled");
                Err(DeliveryLost)
            }
        }
    }
}

impl Deref for Delivery {
    type Target = Incoming;

    fn deref(&self) -> &Incoming {
        &self.incoming
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("queue", &self.queue)
            .field("incoming", &self.incoming)
            .finish_non_exhaustive()
    }
}
