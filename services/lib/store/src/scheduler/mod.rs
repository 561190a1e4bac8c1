//! The scheduler: which waiting task is released to the broker next, and how many.

pub(crate) mod candidates;
pub(crate) mod cursor;
pub(crate) mod fair_share;
pub(crate) mod image_holds;
pub(crate) mod more_candidates;
pub(crate) mod release;
pub(crate) mod reservations;
pub(crate) mod room;
pub(crate) mod routes;
pub(crate) mod select;
pub(crate) mod types;
pub(crate) mod window;
