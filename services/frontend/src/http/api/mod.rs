//! `/api/v1`: the native API. File names begin with the resource; a file has one endpoint, or a pair that belongs
//! together such as list and show.

pub(crate) mod attempt_files;
pub(crate) mod build_cancel;
pub(crate) mod build_import;
pub(crate) mod build_resubmit;
pub(crate) mod build_submit;
pub(crate) mod builder_drain;
pub(crate) mod builders;
pub(crate) mod builds;
pub(crate) mod chroots;
pub(crate) mod health;
pub(crate) mod logs;
pub(crate) mod model;
pub(crate) mod parked;
pub(crate) mod pollers;
pub(crate) mod projects;
pub(crate) mod source_upload;
pub(crate) mod status;
pub(crate) mod tasks;
pub(crate) mod wait_reason;
