//! A hand in the broker, for tests: takes messages off a queue, and puts them back later, or more than once.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout_at};

/// Each answer of the broker is waited for so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why nothing could be taken or put back.
#[derive(Debug, thiserror::Error)]
pub enum TamperError {
    /// The broker refused, or the connection ended.
    #[error("the broker: {0}")]
    Broker(#[from] lapin::Error),
    /// It did not answer.
    #[error("the broker did not answer within {PATIENCE:?}")]
    Late(#[from] tokio::time::error::Elapsed),
}

/// Messages that were taken and are not acknowledged yet: when this is dropped, the broker hands them out again.
pub struct Stolen {
    url: SecretString,
    queue: String,
    deliveries: Vec<Delivery>,
    _connection: Connection,
}

/// Takes at most so many messages from a queue, beside its other consumers, for at most the time given.
pub async fn steal(
    url: &SecretString,
    queue: &str,
    at_most: u16,
    within: Duration,
) -> Result<Stolen, TamperError> {
    let (connection, channel) = open(url).await?;
    answer(channel.basic_qos(at_most, BasicQosOptions::default())).await?;
    let mut consumer = answer(channel.basic_consume(
        queue.into(),
        "".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    ))
    .await?;
    let until = Instant::now() + within;
    let mut deliveries = Vec::new();
    while deliveries.len() < usize::from(at_most) {
        match timeout_at(until, consumer.next()).await {
            Ok(Some(delivery)) => deliveries.push(delivery?),
            Ok(None) | Err(_) => break,
        }
    }
    answer(channel.basic_cancel(consumer.tag(), BasicCancelOptions::default())).await?;
    Ok(Stolen {
        url: url.clone(),
        queue: queue.to_owned(),
        deliveries,
        _connection: connection,
    })
}

/// Puts a message into a queue and waits for the confirm.
pub async fn plant(url: &SecretString, queue: &str, body: &[u8]) -> Result<(), TamperError> {
    let (_connection, channel) = open(url).await?;
    publish(&channel, queue, body, BasicProperties::default()).await
}

impl Stolen {
    /// How many messages were taken.
    pub fn len(&self) -> usize {
        self.deliveries.len()
    }

    /// Whether there was nothing to take.
    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    /// Publishes each so many times as it was, then acknowledges it. After a lost connection the broker hands out the
    /// originals, too: then there is one copy more.
    pub async fn put_back(self, copies: usize) -> Result<(), TamperError> {
        let (_connection, channel) = open(&self.url).await?;
        for delivery in &self.deliveries {
            for _ in 0..copies {
                let properties = delivery.properties.clone();
                publish(&channel, &self.queue, &delivery.data, properties).await?;
            }
            answer(delivery.acker.ack(BasicAckOptions::default()))
                .await
                .map_or_else(
                    |error| {
                        matches!(error, TamperError::Broker(_))
                            .then_some(())
                            .ok_or(error)
                    },
                    |_| Ok(()),
                )?;
        }
        Ok(())
    }
}

async fn open(url: &SecretString) -> Result<(Connection, Channel), TamperError> {
    let call = Connection::connect(url.expose_secret(), ConnectionProperties::default());
    let connection = answer(call).await?;
    let channel = answer(connection.create_channel()).await?;
    answer(channel.confirm_select(ConfirmSelectOptions::default())).await?;
    Ok((connection, channel))
}

async fn publish(
    channel: &Channel,
    queue: &str,
    body: &[u8],
    properties: BasicProperties,
) -> Result<(), TamperError> {
    let call = async {
        let options = BasicPublishOptions::default();
        channel
            .basic_publish("".into(), queue.into(), options, body, properties)
            .await?
            .await
    };
    answer(call).await.map(|_| ())
}

async fn answer<T>(call: impl Future<Output = lapin::Result<T>>) -> Result<T, TamperError> {
    Ok(tokio::time::timeout(PATIENCE, call).await??)
}
