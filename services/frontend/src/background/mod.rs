//! Background parts: loops beside the HTTP server, each with a single step that tests can call.

pub(crate) mod hints;
pub(crate) mod janitor;
pub(crate) mod job_message;
pub(crate) mod log_sealer;
pub(crate) mod parked_listener;
pub(crate) mod redact;
pub(crate) mod relay;
pub(crate) mod report_listener;
pub(crate) mod result_checker;
pub(crate) mod startup;
pub(crate) mod suggest_limits;
pub(crate) mod sweeper;
