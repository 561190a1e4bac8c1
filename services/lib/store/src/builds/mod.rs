//! Builds: submit, cancel, list and show them, assembled from their rows.

pub(crate) mod assemble;
pub(crate) mod cancel;
pub(crate) mod read;
pub(crate) mod submit;
pub(crate) mod views;
