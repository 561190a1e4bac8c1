//! Errors of the result store, with a variant for each that a caller handles differently.

use std::error::Error;
use std::io;

use crate::digest::Sha256;

/// Any error of a sender's stream.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why bytes could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// The store's address is unusable.
    #[error(
        "'{url}' is no result store, expected such as file:///var/lib/millrace/results: {reason}"
    )]
    BadUrl {
        /// The address as it was given.
        url: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// There is no such object; the text names it.
    #[error("{0} is not in the result store")]
    NotFound(String),
    /// The received bytes are not the announced ones; nothing was kept.
    #[error("the received bytes have the digest {actual}, but {expected} was announced")]
    DigestMismatch {
        /// Digest that the sender announced.
        expected: Sha256,
        /// The digest of what arrived.
        actual: Sha256,
    },
    /// Fewer or more bytes than announced; nothing was kept.
    #[error("received {actual} bytes, but {expected} were announced")]
    SizeMismatch {
        /// Size that the sender announced, in bytes.
        expected: u64,
        /// The size of what arrived, or one more than announced when the rest was not read.
        actual: u64,
    },
    /// More bytes than are accepted; nothing was kept.
    #[error("larger than the {cap} bytes that are accepted")]
    TooLarge {
        /// The largest accepted size.
        cap: u64,
    },
    /// The store's disk is full.
    #[error("the result store is full")]
    Full,
    /// The log is sealed and ends before these bytes.
    #[error("the log is sealed at {length} bytes, no more is accepted")]
    Sealed {
        /// Length of the sealed log, in bytes.
        length: u64,
    },
    /// The sender's stream broke; nothing was kept.
    #[error("the sender broke off: {0}")]
    Input(#[source] BoxError),
    /// The store itself failed.
    #[error("the result store failed at {what}: {source}")]
    Store {
        /// The operation, or the object it was on.
        what: String,
        /// The cause, from the object store or the file system.
        #[source]
        source: BoxError,
    },
}

impl ResultError {
    /// Whether the named thing does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }

    pub(crate) fn of_store(what: impl Into<String>, error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::NotFound(what.into()),
            error if is_full(&error) => Self::Full,
            error => Self::Store {
                what: what.into(),
                source: error.into(),
            },
        }
    }

    pub(crate) fn of_io(what: impl Into<String>, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound(what.into()),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Store {
                what: what.into(),
                source: error.into(),
            },
        }
    }
}

/// Looks for a full disk among an error's causes.
fn is_full(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(error) = cause.downcast_ref::<io::Error>()
            && matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        {
            return true;
        }
        next = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_found_among_the_causes() {
        let generic = |kind: io::ErrorKind| object_store::Error::Generic {
            store: "test",
            source: Box::new(io::Error::new(kind, "inner")),
        };
        assert!(matches!(
            ResultError::of_store("x", generic(io::ErrorKind::StorageFull)),
            ResultError::Full
        ));
        assert!(matches!(
            ResultError::of_store("x", generic(io::ErrorKind::PermissionDenied)),
            ResultError::Store { .. }
        ));
    }
}
