//! The API's objects. Scripts rely on the names of their fields: a field is added, never renamed or removed.

pub(crate) mod attempt;
pub(crate) mod build;
pub(crate) mod page;
pub(crate) mod task;
pub(crate) mod wait;
