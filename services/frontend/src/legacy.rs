//! The polling API of 2012.

mod list;

pub use list::{LegacyList, limit_of};
