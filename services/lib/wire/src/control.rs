//! `control/v1`: hints to builders. Fire and forget; the next heartbeat answer says the same again.

use millrace_domain::AttemptId;
use serde::{Deserialize, Serialize};

/// A hint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "hint", rename_all = "snake_case")]
pub enum ControlV1 {
    /// Stop this attempt: its requester cancelled it.
    Cancel {
        /// The attempt.
        attempt_id: AttemptId,
    },
    /// Send a heartbeat now: its answer holds news.
    Heartbeat,
}
