//! Where the next look among owners begins. Of more owners than a release has room for only some are looked at, so
//! the next one goes on where it stopped. Each frontend has its own rota, and loses nothing with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A walk among the owners that wait in a route in one class of priority.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Walk {
    pub(crate) arch: String,
    pub(crate) memory_class: String,
    pub(crate) priority: i16,
    pub(crate) purpose: Purpose,
}

/// What owners are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// To fill the window.
    Turns,
    /// To find those who have waited so long that they count as a higher class.
    Age,
}

/// After which owner each walk begins.
#[derive(Clone, Default)]
pub(crate) struct Rota(Arc<Mutex<HashMap<Walk, i64>>>);

impl Rota {
    /// The owner after whom this walk begins; none when the last one met everyone.
    pub(crate) fn start(&self, walk: &Walk) -> Option<i64> {
        self.with(|starts| starts.get(walk).copied())
    }

    /// Has the next one begin after this owner.
    pub(crate) fn go_on_after(&self, walk: Walk, owner: i64) {
        self.with(|starts| starts.insert(walk, owner));
    }

    /// Has the next one begin with the first owner.
    pub(crate) fn forget(&self, walk: &Walk) {
        self.with(|starts| starts.remove(walk));
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<Walk, i64>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
