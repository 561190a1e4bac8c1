//! PID 1 of a sandbox: runs the steps of a plan under limits, streams the log, counts, reports, and ends
//! everything when its builder is gone. The types are shared with the builder; the rest is the program's.
#![doc = include_str!("../README.md")]

mod cgroup;
mod clock;
mod disk;
mod limits;
mod logcap;
mod netcut;
mod orders;
mod outlet;
mod process;
mod program;
mod protocol;
mod run;
mod selftest;
mod signals;
mod stages;

pub use program::run;
pub use protocol::{
    HOME, LimitHit, LogCaps, Network, Notice, Order, Owner, PACKAGES_DIR, PLAN_PATH, Plan,
    REPORT_PATH, REPOSITORIES_PATH, REPOSITORIES_PROGRAM, REQUIRES_PATH, RESULT_DIR, Report,
    Rounds, SOURCE_PATH, SUPERVISOR_PATH, Sample, SelfTestFacts, StageMark, Step, StepEnd,
    StepReport,
};
