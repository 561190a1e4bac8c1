//! The polling API of 2012.

pub(crate) mod basic_auth;
pub(crate) mod import;
pub(crate) mod list;
pub(crate) mod query;
pub(crate) mod report;
pub(crate) mod update_builds;
pub(crate) mod waiting_builds;
