//! Settings: the command line as it is given (`args`), what it means once checked (`settings`), and the file of first
//! chroots.

pub(crate) mod args;
pub(crate) mod chroots_file;
pub(crate) mod error;
pub(crate) mod links;
pub(crate) mod settings;
mod validate;
