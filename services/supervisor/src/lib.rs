//! PID 1 of a sandbox: runs the steps of a plan under limits, streams the log, counts, reports, and ends
//! everything when its builder is gone. The types are shared with the builder; the rest is the program's.
#![doc = include_str!("../README.md")]

mod cgroup;
mod clock;
mod commands;
mod disk;
mod limits;
mod log_limit;
mod netcut;
mod output_queue;
mod process;
mod program;
mod protocol;
mod run;
mod self_test;
mod signals;
mod stages;

pub use program::run;
pub use protocol::{
    HOME, LimitHit, LogCaps, Network, Notice, Order, Owner, PACKAGES_DIR, PLAN_PATH, Plan,
    REPORT_PATH, REPOSITORIES_PATH, REPOSITORIES_PROGRAM, REQUIRES_PATH, RESULT_DIR, Report,
    Rounds, SOURCE_PATH, SUPERVISOR_PATH, Sample, SelfTestFacts, StageMark, Step, StepEnd,
    StepReport,
};
