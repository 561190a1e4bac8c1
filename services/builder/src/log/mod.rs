//! The log of an attempt: written to the spool as fast as the sandbox sends it, and shipped from there by offset.
//!
//! The two halves never wait for each other: a reader that pauses would stall the build, and a frontend that does not
//! answer must not. What was not shipped before a restart is shipped after it, from the size that the frontend has.

pub(crate) mod ship;
pub(crate) mod spool;

/// A piece up to this size, in bytes, is read or written without another thread, which would cost more.
const INLINE: usize = 16 << 10;
