//! The container engine: preparation, self-test, room, missing images, and cleanup.

pub(crate) mod container_cleanup;
pub(crate) mod missing_images;
pub(crate) mod prepare;
pub(crate) mod room;
pub(crate) mod self_test;
