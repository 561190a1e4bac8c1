//! The log of an attempt: spooled to disk as fast as the sandbox writes it, shipped from there by offset.
//!
//! The two halves never wait for each other: a reader that pauses would stall the build, and a frontend that is
//! away must not. What was not shipped before a restart is shipped after it, from where the frontend says it stands.

pub(crate) mod ship;
pub(crate) mod spool;

/// A piece up to this size, in bytes, is written or read at once: handing it to another thread costs more.
const INLINE: usize = 16 << 10;
