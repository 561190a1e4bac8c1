//! What is particular to mock: its command line, its exit codes, what its output tells, and how a run is judged.

mod command;
mod exit_code;
mod judgement;
mod reader;
mod telling;

pub use command::{Try, plan, programs};
pub use judgement::{Evidence, judge};
pub use reader::{LogFacts, LogReader};
