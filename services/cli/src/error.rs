//! The two errors that this program finds itself; what the server refuses is an `ApiError`.

/// The command line, a file that it names, or the configuration is wrong; exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// The server, or what it sent, cannot be used; exit code 3.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServiceError(pub String);
