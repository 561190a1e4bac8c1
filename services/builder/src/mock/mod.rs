//! Everything specific to mock: its command lines (the plan), its exit codes, the scan of its log, and the classification
//! of a run.

pub(crate) mod classify;
pub(crate) mod error_lines;
pub(crate) mod exit_code;
pub(crate) mod log_scan;
pub(crate) mod plan;
