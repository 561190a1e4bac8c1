//! How a call to the frontend fails. Callers tell three endings apart: the same call may work later, the lease is gone,
//! or the frontend refuses for good.

/// Why a call did not work.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer, or one that says "later".
    #[error("{0}")]
    Away(String),
    /// 507: the result store has no space for it now.
    #[error("{0}")]
    StoreFull(String),
    /// 410: the lease is gone.
    #[error("the lease is gone")]
    LeaseGone,
    /// Refused for good.
    #[error("the frontend refused with status {status}: {reason}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The frontend's words.
        reason: String,
    },
    /// A file of ours cannot be read or written.
    #[error("{0}")]
    Local(#[from] std::io::Error),
}
