//! The broker's address and the deadlines of calls to it.

use std::fmt;
use std::time::Duration;

use lapin::uri::{AMQPScheme, AMQPUri};
use secrecy::{ExposeSecret, SecretString};

use crate::error::ConfigError;

/// A peer that is silent for twice this many seconds is taken for dead.
const HEARTBEAT_SECONDS: u16 = 10;

/// How to reach the broker.
#[derive(Clone)]
pub struct BusConfig {
    pub(crate) uri: AMQPUri,
    pub(crate) client: String,
    pub(crate) confirm_deadline: Duration,
    pub(crate) rpc_deadline: Duration,
}

impl BusConfig {
    /// Reads `amqp://USER:PASSWORD@HOST:PORT/VHOST`; `client` names the connections in the broker's own lists.
    pub fn new(url: &SecretString, client: impl Into<String>) -> Result<Self, ConfigError> {
        let text = url.expose_secret();
        let mut uri: AMQPUri = text.parse().map_err(|_| ConfigError::NotAUrl)?;
        if uri.scheme == AMQPScheme::AMQPS {
            return Err(ConfigError::Tls);
        }
        if uri.vhost.is_empty() {
            return Err(ConfigError::NoVhost);
        }
        // The parser takes an IPv6 host for none at all and would fall back to localhost.
        if let Some(host) = ipv6_host(text) {
            host.clone_into(&mut uri.authority.host);
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        Ok(Self {
            uri,
            client: client.into(),
            confirm_deadline: Duration::from_secs(5),
            rpc_deadline: Duration::from_secs(10),
        })
    }

    /// How long the confirms of one publish, or of one batch, are waited for; 5 s unless set.
    #[must_use]
    pub const fn confirm_deadline(mut self, deadline: Duration) -> Self {
        self.confirm_deadline = deadline;
        self
    }

    /// How long an answer to connect, declare, consume and cancel is waited for; 10 s unless set.
    #[must_use]
    pub const fn rpc_deadline(mut self, deadline: Duration) -> Self {
        self.rpc_deadline = deadline;
        self
    }
}

fn ipv6_host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    Some(host.strip_prefix('[')?.split_once(']')?.0)
}

impl fmt::Debug for BusConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = &self.uri.authority;
        f.debug_struct("BusConfig")
            .field("host", &authority.host)
            .field("port", &authority.port)
            .field("vhost", &self.uri.vhost)
            .field("user", &authority.userinfo.username)
            .field("client", &self.client)
            .field("confirm_deadline", &self.confirm_deadline)
            .field("rpc_deadline", &self.rpc_deadline)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> Result<BusConfig, ConfigError> {
        BusConfig::new(&SecretString::from(url), "test")
    }

    #[test]
    fn a_url_is_read_and_its_password_never_shown() {
        let config = config("amqp://me:s3cret@broker:5673/millrace").unwrap();
        assert_eq!(config.uri.vhost, "millrace");
        assert_eq!(config.uri.query.heartbeat, Some(10));
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn an_ipv6_host_is_kept() {
        let config = config("amqp://me:pw@[::1]:5672/%2f").unwrap();
        assert_eq!(config.uri.authority.host, "::1");
        assert_eq!(config.uri.vhost, "/");
    }

    #[test]
    fn what_is_no_broker_url_is_refused_without_showing_it() {
        for bad in ["", "s3cret", "http://me:s3cret@broker/", "mailto:s3cret"] {
            let error = config(bad).unwrap_err();
            assert!(!error.to_string().contains("s3cret"), "{bad}");
        }
        assert_eq!(config("amqps://broker/x").unwrap_err(), ConfigError::Tls);
        assert_eq!(config("amqp://broker/").unwrap_err(), ConfigError::NoVhost);
    }
}
