//! Attempts: claim, heartbeat, uploads, acceptance, expiry, and every transition of task and attempt.

pub(crate) mod accept;
pub(crate) mod claim;
pub(crate) mod expire;
pub(crate) mod finished_packages;
pub(crate) mod heartbeat;
pub(crate) mod raise_limit;
pub(crate) mod revoke_silent;
pub(crate) mod transition;
pub(crate) mod uploads;
pub(crate) mod usage_history;
