//! `control/v1`: hints to builders. Fire and forget; the next heartbeat answer says the same again.

use millrace_domain::AttemptId;
use serde::{Deserialize, Serialize};

/// A hint to a builder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "hint", rename_all = "snake_case")]
pub enum ControlV1 {
    /// Stop this attempt: its requester cancelled it.
    Cancel {
        /// Id of the attempt to stop.
        attempt_id: AttemptId,
    },
    /// Send a heartbeat now: its answer holds news.
    Heartbeat,
}
