//! Loops beside the HTTP server. `run` repeats a single step, called `tick` or `handle`, until the stop; each file says
//! what happens when a wake or a message is lost.

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
