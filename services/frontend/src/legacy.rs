//! The polling API of 2012.

mod basic;
mod believe;
mod guesses;
mod import;
mod list;
mod query;
mod report;
mod shared;

pub use basic::credentials;
pub use believe::{check_template, run as run_believer};
pub use guesses::Guesses;
pub use import::{ImportEntry, Measures, check_import};
pub use list::{LegacyList, Shape};
pub use query::{DEFAULT_LIMIT, ListQuery};
pub use report::parse_report;
pub use shared::SharedList;
