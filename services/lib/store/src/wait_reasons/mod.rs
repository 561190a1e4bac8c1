//! Why a task waits: the facts, its position, and an estimate of its start.

pub(crate) mod estimate;
pub(crate) mod facts;
pub(crate) mod position;
