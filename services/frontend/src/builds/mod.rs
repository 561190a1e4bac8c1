//! Use cases of builds, which HTTP handlers call: submit, resubmit, cancel.

pub(crate) mod cancel;
pub(crate) mod resubmit;
pub(crate) mod submit;
