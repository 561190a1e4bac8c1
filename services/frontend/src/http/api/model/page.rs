//! Lists in answers, whole or by pages.

use serde::Serialize;
use utoipa::ToSchema;

/// A page of a list, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The page's entries, newest first.
    pub items: Vec<T>,
    /// What to give as `before` for the next page; null on the last one.
    pub next: Option<i64>,
}

/// A whole list, without pages.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T> {
    /// All entries; there are no further pages.
    pub items: Vec<T>,
}
