//! `/api/v1/pollers`: pollers of 2012 that are known by name. An address and a password are shown once and stored as
//! digests.

pub(crate) mod access;
pub(crate) mod add;
pub(crate) mod lens;
pub(crate) mod list;
pub(crate) mod model;
pub(crate) mod remove;
pub(crate) mod rotate;
