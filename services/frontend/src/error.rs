//! Why a request was not answered as asked: one error for use cases and handlers, which `http/error_answer.rs` turns
//! into an answer.

use millrace_results::ResultError;
use millrace_store::StoreError;
use millrace_wire::ClaimRefusal;

/// A field of a request that cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field's path, such as `sources[3]`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
    /// What would be accepted.
    pub accepted: Option<String>,
}

/// Why a request was not answered as asked.
#[derive(Debug)]
pub enum ApiError {
    /// The request cannot be read at all.
    Malformed {
        /// What is wrong with it, for the caller.
        detail: String,
    },
    /// The request can be read, but a field cannot be accepted.
    Field(FieldError),
    /// The token is missing or wrong.
    Unauthenticated {
        /// Which token was expected.
        expected: &'static str,
    },
    /// The resource does not exist.
    Unknown {
        /// Its kind, such as `build`.
        what: &'static str,
        /// Its name in the request.
        name: String,
    },
    /// No route has this path.
    NoSuchPath,
    /// The path has routes, for other methods only.
    WrongMethod,
    /// The present state of the resource forbids the request.
    Conflict {
        /// The state, for the caller.
        detail: String,
    },
    /// The idempotency key was used for another request.
    KeyReused,
    /// The store refused a claim, for this reason.
    ClaimRefused(ClaimRefusal),
    /// A log chunk does not begin where the stored log ends.
    LogMismatch {
        /// Bytes that are stored; the next chunk begins there.
        size: u64,
    },
    /// The lease token does not belong to a live attempt.
    LeaseGone,
    /// The log was removed because it was old.
    LogRemoved {
        /// When, and by which setting.
        detail: String,
    },
    /// The request has no usable `Content-Length`.
    LengthRequired,
    /// The body is larger than the cap.
    TooLarge {
        /// The cap in bytes.
        cap: u64,
    },
    /// The body did not come in time, or broke off.
    BodyBroken {
        /// How the body ended.
        detail: String,
    },
    /// The body is not of the expected type.
    WrongType {
        /// The media type that would be accepted.
        accepted: &'static str,
    },
    /// The range lies outside the file.
    Range {
        /// The file's size in bytes.
        size: u64,
    },
    /// The frontend is starting, or its database is away.
    Unavailable {
        /// The cause, for the log only.
        reason: String,
    },
    /// The result store is full.
    StorageFull,
    /// An internal error; the caller cannot do anything about it.
    Internal {
        /// The cause, for the log only.
        reason: String,
    },
}

impl FieldError {
    /// Refuses a field, given by its path, for a reason.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "errors and names are given away at the call"
    )]
    pub fn new(field: impl Into<String>, reason: impl ToString) -> Self {
        Self {
            field: field.into(),
            reason: reason.to_string(),
            accepted: None,
        }
    }

    /// Adds what would be accepted.
    #[must_use]
    pub fn accepted(mut self, accepted: impl Into<String>) -> Self {
        self.accepted = Some(accepted.into());
        self
    }
}

impl ApiError {
    /// [`ApiError::Unknown`] with a name of 100 characters at most, since callers choose it.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "errors and names are given away at the call"
    )]
    pub fn unknown(what: &'static str, name: impl ToString) -> Self {
        Self::Unknown {
            what,
            name: name.to_string().chars().take(100).collect(),
        }
    }

    /// [`ApiError::Internal`]; the text goes to the log only.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "errors and names are given away at the call"
    )]
    pub fn internal(reason: impl ToString) -> Self {
        Self::Internal {
            reason: reason.to_string(),
        }
    }
}

impl From<FieldError> for ApiError {
    fn from(error: FieldError) -> Self {
        Self::Field(error)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        if error.is_unavailable() {
            Self::Unavailable {
                reason: error.to_string(),
            }
        } else {
            Self::internal(error)
        }
    }
}

impl From<ResultError> for ApiError {
    fn from(error: ResultError) -> Self {
        match error {
            ResultError::NotFound(name) => Self::unknown("file", name),
            ResultError::DigestMismatch { .. } => {
                Self::Field(FieldError::new("millrace-sha256", error))
            }
            ResultError::SizeMismatch { .. } => {
                Self::Field(FieldError::new("content-length", error))
            }
            ResultError::TooLarge { cap } => Self::TooLarge { cap },
            ResultError::Full => Self::StorageFull,
            ResultError::Sealed { .. } => Self::LeaseGone,
            ResultError::Input(source) => Self::BodyBroken {
                detail: source.to_string(),
            },
            ResultError::BadUrl { .. } | ResultError::Store { .. } => Self::internal(error),
        }
    }
}
