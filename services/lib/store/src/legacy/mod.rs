//! Pollers of 2012: the list they fetch, who they are, what they claim and report, and the import of an old site's builds.

pub(crate) mod claim;
pub(crate) mod expire;
pub(crate) mod finish;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod pollers;
pub(crate) mod report;
pub(crate) mod types;
