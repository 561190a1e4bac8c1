//! `control/v1`: hints to builders. Not confirmed; the next heartbeat's answer carries the same information.

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
    /// Send a heartbeat now, as its answer has changed.
    Heartbeat,
}
