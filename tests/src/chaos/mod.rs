//! `make chaos`: a running pipeline under load, broken by a seeded plan, and a verdict over what is left.

mod client;
mod environment;
mod faults;
mod journal;
mod kind;
mod load;
mod member;
mod options;
mod plan;
mod report;
mod run;
mod seeded_random;
mod settle;
mod small_disk;
mod watch;
mod workload;

pub use environment::Environment;
pub use journal::{CancelAnswer, Known, Seen, Submission};
pub use kind::Kind;
pub use member::Member;
pub use options::{Options, SandboxKind};
pub use plan::Fault;
pub use report::Report;
pub use run::{Ended, planned, run, run_to_rest};
