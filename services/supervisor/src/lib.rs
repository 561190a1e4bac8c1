//! PID 1 of a sandbox: runs the steps of a plan under limits, streams the log, measures, reports, and ends every
//! process when its builder is gone. Its protocol's types are shared with the builder; all else is private.
#![doc = include_str!("../README.md")]

mod cgroup;
mod clock;
mod commands;
mod disk;
mod exit_codes;
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
    HOME, LimitHit, LogCaps, Network, Notice, Owner, PACKAGES_DIR, PLAN_PATH, Plan, REPORT_PATH,
    REPOSITORIES_PATH, REPOSITORIES_PROGRAM, REQUIRES_PATH, RESULT_DIR, Report, Rounds,
    SOURCE_PATH, SUPERVISOR_PATH, Sample, SelfTestFacts, StageMark, Step, StepEnd, StepReport,
    SupervisorCommand,
};
