//! The frontend as a builder sees it: the HTTP client of `/builder/v1`, its errors, and transfers of files.

pub(crate) mod call_error;
pub(crate) mod client;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod session;
pub(crate) mod transfer;
