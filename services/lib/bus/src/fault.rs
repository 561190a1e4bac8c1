//! Errors of lapin and of deadlines, sorted by how they are handled.

use std::future::Future;
use std::time::Duration;

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};

/// Why something on a connection did not work.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Fault {
    /// A queue or exchange does not exist (404).
    #[error("it does not exist: {0}")]
    Missing(String),
    /// The broker refuses it, or it exists with other properties: only an operator can help (403, 406).
    #[error("refused by the broker: {0}")]
    Refused(String),
    /// No answer in time.
    #[error("the broker did not answer {0} within {1:?}")]
    Silent(&'static str, Duration),
    /// The channel or the connection has ended.
    #[error("{0}")]
    Gone(String),
}

impl From<lapin::Error> for Fault {
    fn from(error: lapin::Error) -> Self {
        if let ErrorKind::ProtocolError(protocol) = error.kind() {
            let text = protocol.get_message().to_string();
            return match protocol.kind() {
                AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => Self::Missing(text),
                AMQPErrorKind::Soft(
                    AMQPSoftError::ACCESSREFUSED | AMQPSoftError::PRECONDITIONFAILED,
                ) => Self::Refused(text),
                _ => Self::Gone(text),
            };
        }
        Self::Gone(error.to_string())
    }
}

/// Runs one exchange with the broker under a deadline; lapin itself waits for ever.
pub(crate) async fn within<T>(
    deadline: Duration,
    what: &'static str,
    call: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(deadline, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Fault::Silent(what, deadline)),
    }
}
