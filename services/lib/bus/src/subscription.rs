//! A consumer on a channel of its own. Any failure ends it; its owner makes a new one.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};

use crate::bus::Bus;
use crate::delivery::Delivery;
use crate::fault::{Fault, within};
use crate::publisher::Publisher;
use crate::topology::short;

/// A channel for one consumer at a time.
#[derive(Clone)]
pub(crate) struct ConsumerChannel {
    channel: Arc<Channel>,
    publisher: Publisher,
    deadline: Duration,
}

impl ConsumerChannel {
    /// Opens a channel on the consuming connection.
    pub(crate) async fn open(bus: &Bus, prefetch: u16) -> Result<Self, Fault> {
        let link = bus.consuming_link();
        let deadline = link.config().rpc_deadline;
        let (_, channel) = link.open_channel().await?;
        let call = channel.basic_qos(prefetch, BasicQosOptions::default());
        within(deadline, "basic.qos", call).await?;
        Ok(Self {
            channel: Arc::new(channel),
            publisher: bus.publisher(),
            deadline,
        })
    }

    /// Whether another consumer can be started on it.
    pub(crate) fn is_open(&self) -> bool {
        self.channel.status().connected()
    }

    /// Starts the channel's one consumer, on an existing queue.
    pub(crate) async fn consume(&self, queue: &str) -> Result<Subscription, Fault> {
        let call = self.channel.basic_consume(
            short(queue)?,
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let consumer = within(self.deadline, "basic.consume", call).await?;
        Ok(Subscription {
            queue: queue.into(),
            consumer,
            channel: self.clone(),
        })
    }
}

/// A running consumer; dropping it cancels it.
pub(crate) struct Subscription {
    queue: Arc<str>,
    consumer: Consumer,
    channel: ConsumerChannel,
}

impl Subscription {
    /// The next delivery; an error ends the subscription. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Delivery, Fault> {
        match self.consumer.next().await {
            Some(Ok(delivery)) => Ok(self.deliver(delivery)),
            Some(Err(error)) => Err(error.into()),
            // What a deleted queue looks like: no error, no event, everything still connected.
            None => Err(Fault::Gone(
                "the broker cancelled the consumer; its queue may be gone".to_owned(),
            )),
        }
    }

    /// Cancels the consumer and gives back what had arrived.
    pub(crate) async fn cancel(mut self) -> (Vec<Delivery>, Result<(), Fault>) {
        let call = self
            .channel
            .channel
            .basic_cancel(self.consumer.tag(), BasicCancelOptions::default());
        let deadline = self.channel.deadline;
        let cancelled = within(deadline, "basic.cancel", call).await;
        let mut arrived = Vec::new();
        // The stream ends behind the last delivery once the broker has answered.
        while let Ok(Some(Ok(delivery))) = tokio::time::timeout(
            if cancelled.is_ok() {
                deadline
            } else {
                Duration::ZERO
            },
            self.consumer.next(),
        )
        .await
        {
            arrived.push(self.deliver(delivery));
        }
        (arrived, cancelled)
    }

    fn deliver(&self, delivery: lapin::message::Delivery) -> Delivery {
        Delivery::new(
            delivery,
            self.queue.clone(),
            self.channel.channel.clone(),
            self.channel.publisher.clone(),
            self.channel.deadline,
        )
    }
}

#[cfg(test)]
mod tests {
    use lapin::options::BasicAckOptions;

    use super::*;
    use crate::config::BusConfig;
    use crate::testing::TestVhost;
    use crate::topology::{EVENTS_QUEUE, Topology};
    use millrace_domain::MemoryClasses;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_channel_that_the_broker_closes_ends_the_subscription_and_nothing_else() {
        let vhost = TestVhost::create().await;
        let config = BusConfig::new(&vhost.frontend_url(), "test").unwrap();
        let bus = Bus::start(config, Topology::frontend([], &MemoryClasses::default()));
        bus.wait_up(Duration::from_secs(30)).await.unwrap();
        let links = (bus.publishing(), bus.consuming());
        for _ in 0..50 {
            let channel = ConsumerChannel::open(&bus, 1).await.unwrap();
            let mut subscription = channel.consume(EVENTS_QUEUE).await.unwrap();
            // An acknowledgement of what was never delivered: PRECONDITION_FAILED.
            let ack = channel.channel.basic_ack(999, BasicAckOptions::default());
            ack.await.unwrap();
            let fault = subscription.next().await.unwrap_err();
            assert!(matches!(fault, Fault::Refused(_)), "{fault}");
        }
        let unchanged = !links.0.has_changed().unwrap() && !links.1.has_changed().unwrap();
        assert!(unchanged, "the connections live on");
        vhost.delete().await;
    }
}
