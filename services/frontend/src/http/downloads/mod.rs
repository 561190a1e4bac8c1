//! `/results`: files and folders of results, for browsers and download tools.

pub(crate) mod result_folders;
pub(crate) mod serve_file;
