//! `/api/v1/chroots`: where packages can be built, and how the images for that are on the engines of builders.

pub(crate) mod add;
pub(crate) mod enable;
pub(crate) mod list;
pub(crate) mod model;
pub(crate) mod refresh;
