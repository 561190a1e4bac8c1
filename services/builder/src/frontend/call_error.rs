//! How a call to the frontend fails. Callers distinguish three endings: the same call may work later, the lease is gone,
//! or the frontend refuses for good.

/// Why a call did not work.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer, or one that asks to try later; the same call may work then.
    #[error("{0}")]
    Away(String),
    /// 507: the result store is full; the same call may work later.
    #[error("{0}")]
    StoreFull(String),
    /// 410: the frontend has revoked the lease.
    #[error("the lease is gone")]
    LeaseGone,
    /// Refused for good; the same call would get the same answer.
    #[error("the frontend refused with status {status}: {reason}")]
    Refused {
        /// The HTTP status of the answer.
        status: u16,
        /// The text of the frontend's problem document.
        reason: String,
    },
    /// A file in the spool cannot be read or written.
    #[error("{0}")]
    Local(#[from] std::io::Error),
}
