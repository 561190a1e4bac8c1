//! Why a file could not be fetched from outside, in sentences for the person who gave the URL.

use std::io;
use std::net::IpAddr;

/// Why a fetch failed.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The text is no URL that can be fetched.
    #[error("this is no URL that can be fetched: {0}")]
    BadUrl(String),
    /// Neither http nor https.
    #[error("only http and https URLs are fetched, not {0}")]
    SchemeRefused(String),
    /// The host leads to an address that is not public.
    #[error(
        "{host} leads to the address {address}, which is private or reserved; the operator can allow it with MILLRACE_FETCH_ALLOW"
    )]
    AddressRefused {
        /// The host as the URL names it.
        host: String,
        /// The first address that was refused.
        address: IpAddr,
    },
    /// More redirects than are followed.
    #[error("the server redirected more than {limit} times")]
    TooManyRedirects {
        /// How many are followed.
        limit: usize,
    },
    /// The server answered, but not with the file.
    #[error("{host} answered with status {status} instead of the file")]
    Status {
        /// Host and port that answered.
        host: String,
        /// HTTP status of the answer; anything but 200.
        status: u16,
    },
    /// Larger than what is accepted.
    #[error("the file is larger than the {cap} bytes that are accepted")]
    TooLarge {
        /// The largest accepted size in bytes.
        cap: u64,
    },
    /// The transfer broke off.
    #[error("the transfer from {host} broke off after {received} bytes{}: {reason}", of_declared(*.declared))]
    Truncated {
        /// Host and port of the sender.
        host: String,
        /// How many bytes arrived.
        received: u64,
        /// How many bytes were announced.
        declared: Option<u64>,
        /// Innermost cause, in the HTTP library's words.
        reason: String,
    },
    /// No connection, or the answer was no HTTP.
    #[error("cannot reach {host}: {reason}")]
    Unreachable {
        /// Host and port of the server.
        host: String,
        /// Innermost cause, in the HTTP library's words.
        reason: String,
    },
    /// The server's certificate does not prove that it is the host.
    #[error("the certificate of {host} is not trusted: {reason}")]
    Certificate {
        /// Host and port of the server.
        host: String,
        /// What is wrong with the certificate.
        reason: String,
    },
    /// Connecting, waiting for data or all together took too long.
    #[error("{host} was too slow: {what}")]
    TimedOut {
        /// Host and port that was too slow.
        host: String,
        /// Which limit was exceeded, in words.
        what: String,
    },
    /// The bytes arrived but could not be written here.
    #[error("cannot write what was fetched: {0}")]
    Write(#[source] io::Error),
    /// The HTTP client could not be set up.
    #[error("cannot set up the HTTP client: {0}")]
    Client(String),
}

fn of_declared(declared: Option<u64>) -> String {
    declared.map_or_else(String::new, |size| format!(" of {size}"))
}

impl FetchError {
    /// Whether the same fetch may succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Truncated { .. } => true,
            Self::Status { status, .. } => *status >= 500 || matches!(status, 408 | 425 | 429),
            Self::BadUrl(_)
            | Self::SchemeRefused(_)
            | Self::AddressRefused { .. }
            | Self::TooManyRedirects { .. }
            | Self::TooLarge { .. }
            | Self::Certificate { .. }
            | Self::Write(_)
            | Self::Client(_) => false,
        }
    }

    /// Whether the local disk is full, which is not the URL's fault.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Write(error)
            if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_trouble_is_worth_a_retry_and_a_missing_file_is_not() {
        let status = |status| FetchError::Status {
            host: "example.org".to_owned(),
            status,
        };
        for transient in [429, 500, 503] {
            assert!(status(transient).is_transient(), "{transient}");
        }
        for lasting in [301, 401, 403, 404, 410] {
            assert!(!status(lasting).is_transient(), "{lasting}");
        }
    }

    #[test]
    fn a_full_disk_is_told_apart() {
        assert!(FetchError::Write(io::ErrorKind::StorageFull.into()).is_disk_full());
        assert!(!FetchError::Write(io::ErrorKind::PermissionDenied.into()).is_disk_full());
    }

    #[test]
    fn messages_say_what_arrived_of_what_was_announced() {
        let error = FetchError::Truncated {
            host: "example.org".to_owned(),
            received: 10,
            declared: Some(20),
            reason: "connection reset".to_owned(),
        };
        assert_eq!(
            error.to_string(),
            "the transfer from example.org broke off after 10 bytes of 20: connection reset"
        );
    }
}
