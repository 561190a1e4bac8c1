//! Pollers of 2012: the list, who polls, claims, reports, and imports.

pub(crate) mod claim;
pub(crate) mod expire;
pub(crate) mod finish;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod pollers;
pub(crate) mod report;
