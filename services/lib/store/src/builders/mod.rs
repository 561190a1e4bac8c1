//! Builders: who is enrolled, who is available, and what keeps one from taking work.

pub(crate) mod availability;
pub(crate) mod blockers;
pub(crate) mod registry;
