//! Projects: the defaults of an installation, and what a project has set.

pub(crate) mod defaults;
pub(crate) mod settings;
