//! Since when the result store has no room for what builders and submitters bring, as far as this frontend has seen it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

/// Builders repeat a refused upload once a minute: after a little more without a refusal nobody waits any longer.
const CALM: Duration = Duration::from_secs(75);

/// The word that the result store is full. On a disk that is nearly full a small file fits in while a large one is
/// refused, so it holds until an upload as large as the largest refused one was stored, or no refusal came for a while.
#[derive(Debug, Default)]
pub struct FullStore(Mutex<Option<Refused>>);

#[derive(Debug, Clone, Copy)]
struct Refused {
    since: DateTime<Utc>,
    last: Instant,
    largest: u64,
}

impl FullStore {
    /// Notes an upload of so many bytes that was refused just now for want of room.
    pub fn refused(&self, bytes: u64) {
        self.refused_at(bytes, Instant::now());
    }

    fn refused_at(&self, bytes: u64, last: Instant) {
        let mut refused = self.lock();
        let before = *refused;
        *refused = Some(Refused {
            since: before.map_or_else(Utc::now, |before| before.since),
            last,
            largest: before.map_or(bytes, |before| before.largest.max(bytes)),
        });
    }

    /// Notes an upload of so many bytes that was stored; true where that ended the want of room.
    pub fn stored(&self, bytes: u64) -> bool {
        self.lock()
            .take_if(|refused| refused.largest <= bytes)
            .is_some()
    }

    /// The first refusal since there last was room.
    pub fn since(&self) -> Option<DateTime<Utc>> {
        self.lock().map(|refused| refused.since)
    }

    /// Whether the store was full, and nothing was refused for longer than a refused upload waits for its next try.
    pub fn is_calm(&self) -> bool {
        self.is_calm_at(Instant::now())
    }

    fn is_calm_at(&self, now: Instant) -> bool {
        self.lock()
            .is_some_and(|refused| now.saturating_duration_since(refused.last) >= CALM)
    }

    /// The store has room.
    pub fn clear(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Refused>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{CALM, FullStore};

    #[test]
    fn a_smaller_upload_does_not_end_it() {
        let store = FullStore::default();
        store.refused(10);
        store.refused(4);
        let since = store.since();
        assert!(since.is_some());
        assert!(!store.stored(9));
        assert_eq!(store.since(), since);
        assert!(store.stored(10));
        assert_eq!(store.since(), None);
        assert!(!store.stored(10), "there was nothing to end");
    }

    #[test]
    fn it_is_calm_when_nobody_was_refused_for_longer_than_a_try_takes() {
        let store = FullStore::default();
        let start = Instant::now();
        let second = Duration::from_secs(1);
        assert!(!store.is_calm_at(start + CALM));
        store.refused_at(10, start);
        store.refused_at(1, start + second);
        assert!(!store.is_calm_at(start + CALM));
        assert!(store.is_calm_at(start + second + CALM));
        store.clear();
        assert!(!store.is_calm_at(start + second + CALM));
    }
}
