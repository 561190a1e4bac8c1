//! The network of a step: whether it is as the plan wants it, the empty namespace, and the names that are known in it.

pub(crate) mod names;
pub(crate) mod netcut;
pub(crate) mod netns;
