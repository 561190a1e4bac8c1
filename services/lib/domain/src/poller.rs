//! Modes of a poller of 2012, and the answers to a report about a build that it no longer owns.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::state::words;

words!(
    /// What a poller does with the list.
    PollerMode, "mode", {
        /// It watches: its list is a view, and its reports change nothing.
        Observe = "observe",
        /// It builds: its list is a claim.
        Execute = "execute",
    }
);

words!(
    /// The answer to a start report for a build that the poller does not own any more.
    Fence, "fence", {
        /// 200, and the build is named among the ignored ones; the poller builds for nothing.
        Ignore = "ignore",
        /// 409, which ends that worker of the poller before it builds.
        Reject = "reject",
    }
);
