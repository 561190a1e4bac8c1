//! What the store needs to know to reach its database.

use std::time::Duration;

use secrecy::SecretString;

/// How to reach PostgreSQL, and how long to wait for it.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// `postgres://user:password@host:port/database`.
    pub url: SecretString,
    /// The most connections held at once.
    pub max_connections: u32,
    /// How long a call waits for a connection.
    pub acquire_timeout: Duration,
    /// How long the server works on one statement.
    pub statement_timeout: Duration,
}

impl StoreConfig {
    pub(crate) const DEFAULT_CONNECTIONS: u32 = 16;

    /// Defaults for one frontend: 16 connections, 2 s for a connection, 10 s for a statement.
    pub fn new(url: SecretString) -> Self {
        Self {
            url,
            max_connections: Self::DEFAULT_CONNECTIONS,
            acquire_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(10),
        }
    }
}
