//! Job orders: consumed from the broker, claimed at the frontend, and the control queue.

pub(crate) mod claim;
pub(crate) mod consumer;
pub(crate) mod control;
