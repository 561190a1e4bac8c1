//! The publisher's handle: takes a message and returns whether the broker stored it.

use lapin::types::{AMQPValue, FieldTable};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::error::PublishError;
use crate::link::Link;
use crate::publish_task::{Command, Prepared, PublishTask, Request};
use crate::topology::{Address, Route};

/// Header with the reason for parking.
pub(crate) const REASON_HEADER: &str = "x-millrace-reason";
/// Header with the queue that a parked message was taken from.
pub(crate) const QUEUE_HEADER: &str = "x-millrace-queue";
/// Longest reason that is stored, in characters.
const MAX_REASON: usize = 500;
/// Messages in one request to the task; a larger batch is cut into several.
const MAX_REQUEST: usize = 500;
/// Requests that wait for the task before publishers wait, too.
const QUEUED_REQUESTS: usize = 256;
/// AMQP's short strings: routing keys and message ids.
const MAX_SHORT: usize = 255;

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The exchange and routing key, as a destination.
    pub route: Route,
    /// Id of the message; the same when it is published again.
    pub message_id: Uuid,
    /// The envelope, as JSON.
    pub body: Vec<u8>,
}

/// A message to park for an operator.
#[derive(Debug, Clone, Copy)]
pub struct Parking<'a> {
    /// Queue that it was consumed from.
    pub queue: &'a str,
    /// Why it is parked, for the operator; cut at 500 characters.
    pub reason: &'a str,
    /// Id of the message; none where it had none.
    pub message_id: Option<&'a str>,
    /// Body of the message, unchanged.
    pub body: &'a [u8],
}

/// Publishes with confirms. Clones share one channel; dropping a future does not take its message back.
#[derive(Clone)]
pub struct Publisher {
    commands: mpsc::Sender<Command>,
    link: Link,
}

impl Publisher {
    /// `declaring` is asked to declare its topology again when a message finds no queue.
    pub(crate) fn start(link: Link, declaring: Link) -> Self {
        let (commands, inbox) = mpsc::channel(QUEUED_REQUESTS);
        tokio::spawn(PublishTask::new(link.clone(), declaring, inbox).run());
        Self { commands, link }
    }

    /// Publishes persistent and mandatory, and waits for the confirm. Fails at once while there is no connection.
    pub async fn publish(&self, message: Outgoing) -> Result<(), PublishError> {
        let prepared = prepare(message)?;
        one(self.request(vec![prepared]).await)
    }

    /// Publishes all at once and waits for all confirms; the results are in the order of the messages.
    pub async fn publish_batch(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        let mut results: Vec<Result<(), PublishError>> = vec![Ok(()); messages.len()];
        let mut prepared = Vec::with_capacity(messages.len());
        let mut positions = Vec::with_capacity(messages.len());
        for (position, message) in messages.into_iter().enumerate() {
            match prepare(message) {
                Ok(message) => {
                    prepared.push(message);
                    positions.push(position);
                }
                Err(error) => results[position] = Err(error),
            }
        }
        let mut requests = Vec::new();
        while !prepared.is_empty() {
            let rest = prepared.split_off(prepared.len().min(MAX_REQUEST));
            requests.push(self.request(std::mem::replace(&mut prepared, rest)));
        }
        let answers = futures_util::future::join_all(requests).await;
        for (position, result) in positions.into_iter().zip(answers.into_iter().flatten()) {
            results[position] = result;
        }
        results
    }

    /// Sends a hint: neither persistent nor mandatory nor confirmed. Its sender must be able to do without it.
    pub async fn hint(&self, route: Route, message_id: Uuid, body: Vec<u8>) {
        let message = Outgoing {
            route,
            message_id,
            body,
        };
        match prepare(message) {
            Ok(hint) => {
                if self.commands.send(Command::Hint(hint)).await.is_err() {
                    tracing::debug!("a hint was dropped: the bus is closed");
                }
            }
            Err(error) => tracing::debug!(%error, "a hint was dropped"),
        }
    }

    /// Pends until messages can be published; for ever once the bus is closed.
    pub async fn ready(&self) {
        self.link.up().await;
    }

    /// Publishes to the parked queue with the reason, and waits for the confirm.
    pub async fn park(&self, parking: Parking<'_>) -> Result<(), PublishError> {
        let text = |text: String| AMQPValue::LongString(text.into());
        let reason: String = parking.reason.chars().take(MAX_REASON).collect();
        let mut headers = FieldTable::default();
        headers.insert(REASON_HEADER.into(), text(reason));
        headers.insert(QUEUE_HEADER.into(), text(parking.queue.to_owned()));
        let message_id = match parking.message_id {
            Some(id) if id.len() <= MAX_SHORT => id.to_owned(),
            _ => Uuid::now_v7().to_string(),
        };
        let prepared = Prepared {
            address: Address::parked(parking.queue),
            message_id,
            headers,
            body: parking.body.to_vec(),
        };
        one(self.request(vec![prepared]).await)
    }

    async fn request(&self, messages: Vec<Prepared>) -> Vec<Result<(), PublishError>> {
        let count = messages.len();
        let (reply, answer) = oneshot::channel();
        let request = Command::Publish(Request { messages, reply });
        if self.commands.send(request).await.is_err() {
            return vec![Err(PublishError::Closed); count];
        }
        // The task answers every request it took; it only goes away with one in hand when the runtime does.
        answer.await.unwrap_or_else(|_| {
            let lost = PublishError::Lost("the bus was closed".into());
            vec![Err(lost); count]
        })
    }
}

fn one(results: Vec<Result<(), PublishError>>) -> Result<(), PublishError> {
    results
        .into_iter()
        .next()
        .unwrap_or(Err(PublishError::Closed))
}

fn prepare(message: Outgoing) -> Result<Prepared, PublishError> {
    let address = message.route.into_address();
    if address.key.len() > MAX_SHORT {
        return Err(PublishError::TooLong);
    }
    Ok(Prepared {
        address,
        message_id: message.message_id.to_string(),
        headers: FieldTable::default(),
        body: message.body,
    })
}
