//! `make chaos`: a running pipeline under load, broken by a seeded plan, and a verdict over what is left.

mod client;
mod dice;
mod faults;
mod journal;
mod kind;
mod load;
mod member;
mod menu;
mod options;
mod plan;
mod report;
mod rig;
mod run;
mod settle;
mod small_disk;
mod watch;

pub use journal::{CancelAnswer, Known, Seen, Submission};
pub use kind::Kind;
pub use member::Member;
pub use options::{Options, SandboxKind};
pub use plan::Fault;
pub use report::Report;
pub use rig::Rig;
pub use run::{Ended, planned, run, run_to_rest};
