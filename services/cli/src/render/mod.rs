//! The server's answers as text for people. Text that came from a package or a server is made harmless for terminals.

pub mod builders;
pub mod builds;
pub mod chroots;
pub mod fields;
mod outcome;
pub mod parked;
pub mod pollers;
pub mod text;
