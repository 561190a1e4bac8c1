//! What is particular to mock: its command line, its exit codes, what its output tells, and how a run is judged.

pub(crate) mod classify;
pub(crate) mod error_lines;
pub(crate) mod exit_code;
pub(crate) mod log_scan;
pub(crate) mod plan;
