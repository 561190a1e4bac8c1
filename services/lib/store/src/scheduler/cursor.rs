//! Round-robin cursor over owners. A release scans only as many owners as there is capacity; the cursor remembers where
//! the scan stopped. In memory, one per frontend; losing it only restarts the rotation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Identifies a scan over the owners that have tasks waiting in one route at one priority.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct OwnerScan {
    pub(crate) arch: String,
    pub(crate) memory_class: String,
    pub(crate) priority: i16,
    pub(crate) purpose: Purpose,
}

/// Which owners a scan is after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// Enough candidates to fill the release window.
    FillWindow,
    /// Owners whose oldest task has waited so long that it counts as a higher class of priority.
    FindAged,
}

/// The owner after whom each scan resumes.
#[derive(Clone, Default)]
pub(crate) struct ScanCursor(Arc<Mutex<HashMap<OwnerScan, i64>>>);

impl ScanCursor {
    /// The owner after whom this scan resumes; none when the last one reached every owner.
    pub(crate) fn start(&self, scan: &OwnerScan) -> Option<i64> {
        self.with(|starts| starts.get(scan).copied())
    }

    /// Lets the next scan start after this owner.
    pub(crate) fn resume_after(&self, scan: OwnerScan, owner: i64) {
        self.with(|starts| starts.insert(scan, owner));
    }

    /// Lets the next scan start at the first owner.
    pub(crate) fn restart(&self, scan: &OwnerScan) {
        self.with(|starts| starts.remove(scan));
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<OwnerScan, i64>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
