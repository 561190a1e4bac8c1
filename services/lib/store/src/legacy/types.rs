//! What travels between the report of a poller and the end of its attempts.

use chrono::DateTime;
use millrace_domain::{SourceUrl, TaskId};

/// One entry of a poller's report. A field that is none leaves the stored value alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PollerReport {
    /// The build's number as the poller sent it; no build needs to have it.
    pub id: i64,
    /// Address of the folder with the results.
    pub results: Option<SourceUrl>,
    /// Start of the build by the poller's clock, in seconds since 1970.
    pub started_on: Option<i64>,
    /// End of the build by the poller's clock, in seconds since 1970.
    pub ended_on: Option<i64>,
    /// 1: success, 0: failure. Any other number does not end the build unless `ended_on` is given too.
    pub status: Option<i64>,
}

/// Answer to a poller's report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reported {
    /// Builds that were changed, in the order of the report.
    pub updated: Vec<i64>,
    /// Numbers that no build has.
    pub unknown: Vec<i64>,
    /// Builds that have ended, were cancelled, or are not the poller's.
    pub ignored: Vec<i64>,
    /// Whether the start of an ignored build was reported.
    pub fenced: bool,
    /// Tasks that this report ended.
    pub ended: Vec<TaskId>,
    /// Whether a success waits until its results were verified.
    pub to_verify: bool,
}

/// A poller's time as a timestamp, clamped to the years 1970 to 9999; the poller may send any number.
pub(crate) fn time(seconds: i64) -> DateTime<chrono::Utc> {
    let within = seconds.clamp(0, 253_402_300_799);
    DateTime::from_timestamp(within, 0).unwrap_or_default()
}
