//! `/results`: files and folders of results, for people and dnf.

pub(crate) mod result_folders;
pub(crate) mod serve_file;
