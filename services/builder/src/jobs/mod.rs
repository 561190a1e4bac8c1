//! Jobs: consumed from the broker and claimed at the frontend. Also the control queue, which brings hints.

pub(crate) mod claim;
pub(crate) mod consumer;
pub(crate) mod control;
