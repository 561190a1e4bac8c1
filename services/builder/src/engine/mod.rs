//! The container engine: connecting and self-test, free room, missing images, and the cleanup of containers.

pub(crate) mod container_cleanup;
pub(crate) mod missing_images;
pub(crate) mod prepare;
pub(crate) mod room;
pub(crate) mod self_test;
