//! Errors of the bus for its callers. No error ever shows credentials.

use std::sync::Arc;
use std::time::Duration;

/// The broker's URL was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The text is no AMQP URL. The cause is not shown, because it may hold the password.
    #[error("the broker's URL is not valid; expected amqp://USER:PASSWORD@HOST:PORT/VHOST")]
    NotAUrl,
    /// This build speaks no TLS to the broker.
    #[error("amqps:// is not supported; put the broker on a private network and use amqp://")]
    Tls,
    /// The URL names the virtual host with the empty name, which is hardly meant.
    #[error(
        "the broker's URL ends in '/' and so names no virtual host; write /millrace, or /%2f for the default one"
    )]
    NoVhost,
}

/// The bus did not come up in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the broker was not ready within {within:?}: {reason}")]
pub struct NotUp {
    /// How long it was waited for.
    pub within: Duration,
    /// Why the missing connection is not up.
    pub reason: Arc<str>,
}

/// A message was not, or perhaps not, stored by the broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No queue takes it; the broker gave it back.
    #[error(
        "no queue takes messages with key '{key}' on exchange {exchange}; the broker returned it"
    )]
    Returned {
        /// Name of the exchange it was published to.
        exchange: &'static str,
        /// Routing key that no queue is bound with.
        key: String,
    },
    /// The broker refused to take it.
    #[error("the broker refused the message")]
    Nacked,
    /// The routing key or message id is longer than AMQP's 255 bytes.
    #[error("a routing key or header of the message is longer than 255 bytes")]
    TooLong,
    /// No confirm came in time: the broker may hold the message or not.
    #[error("the broker did not confirm the message within {0:?}; it may hold it or not")]
    Deadline(Duration),
    /// The channel or connection ended before the confirm: the broker may hold the message or not.
    #[error("the connection ended before the broker confirmed the message: {0}")]
    Lost(Arc<str>),
    /// There is no connection; nothing was sent.
    #[error("not connected to the broker: {0}")]
    Disconnected(Arc<str>),
    /// The broker takes no messages for now (an alarm); nothing was sent.
    #[error("the broker takes no messages for now: {0}")]
    Blocked(Arc<str>),
    /// The bus was closed; nothing was sent.
    #[error("the bus is closed")]
    Closed,
}

impl PublishError {
    /// Whether the broker certainly does not hold the message. Otherwise publish it again under the same id and
    /// let the receiver recognise it.
    pub const fn is_certainly_unsent(&self) -> bool {
        match self {
            Self::Returned { .. }
            | Self::Nacked
            | Self::TooLong
            | Self::Disconnected(_)
            | Self::Blocked(_)
            | Self::Closed => true,
            Self::Deadline(_) | Self::Lost(_) => false,
        }
    }
}

/// The channel of a delivery has ended: the broker delivers the message again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the delivery's channel is gone; the broker delivers the message again")]
pub struct DeliveryLost;
