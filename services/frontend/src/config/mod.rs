//! Settings: the command line, what it means once checked, and the file of first chroots.

pub(crate) mod args;
pub(crate) mod chroots_file;
pub(crate) mod settings;
