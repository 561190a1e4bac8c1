//! The polling API of 2012: pollers fetch the list of waiting builds and report what became of them. Answers are
//! fixed to the byte, since those programs cannot be changed.

pub(crate) mod basic_auth;
pub(crate) mod import;
pub(crate) mod list;
pub(crate) mod query;
pub(crate) mod report;
pub(crate) mod update_builds;
pub(crate) mod waiting_builds;
