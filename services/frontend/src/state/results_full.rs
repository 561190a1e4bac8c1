//! Whether the result store is full, and since when, as far as this frontend has seen it: from uploads of builders and
//! submitters that were refused or stored.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

/// Builders repeat a refused upload once a minute: after a little more without a refusal, no upload is waiting.
const RETRY_PERIOD: Duration = Duration::from_secs(75);

/// Set while the result store is full. On a disk that is nearly full a small file fits in while a large one is
/// refused, so it stays set until an upload as large as the largest refused one was stored, or no refusal came for a
/// while.
#[derive(Debug, Default)]
pub struct ResultsFull(Mutex<Option<Refused>>);

#[derive(Debug, Clone, Copy)]
struct Refused {
    since: DateTime<Utc>,
    last: Instant,
    largest: u64,
}

impl ResultsFull {
    /// Notes an upload of `bytes` that was refused just now because the store is full.
    pub fn note_refused(&self, bytes: u64) {
        self.note_refused_at(bytes, Instant::now());
    }

    fn note_refused_at(&self, bytes: u64, last: Instant) {
        let mut refused = self.lock();
        let before = *refused;
        *refused = Some(Refused {
            since: before.map_or_else(Utc::now, |before| before.since),
            last,
            largest: before.map_or(bytes, |before| before.largest.max(bytes)),
        });
    }

    /// Notes an upload of `bytes` that was stored; true where it shows that the store has space again.
    pub fn note_stored(&self, bytes: u64) -> bool {
        self.lock()
            .take_if(|refused| refused.largest <= bytes)
            .is_some()
    }

    /// The first refusal since the store last had space; none while it is not full.
    pub fn since(&self) -> Option<DateTime<Utc>> {
        self.lock().map(|refused| refused.since)
    }

    /// Whether the store was full, and no upload was refused for longer than a refused one waits for its next try.
    pub fn has_no_recent_refusal(&self) -> bool {
        self.had_no_recent_refusal_at(Instant::now())
    }

    fn had_no_recent_refusal_at(&self, now: Instant) -> bool {
        self.lock()
            .is_some_and(|refused| now.saturating_duration_since(refused.last) >= RETRY_PERIOD)
    }

    /// Notes that the store was found to have space.
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

    use super::{RETRY_PERIOD, ResultsFull};

    #[test]
    fn a_smaller_upload_does_not_end_it() {
        let store = ResultsFull::default();
        store.note_refused(10);
        store.note_refused(4);
        let since = store.since();
        assert!(since.is_some());
        assert!(!store.note_stored(9));
        assert_eq!(store.since(), since);
        assert!(store.note_stored(10));
        assert_eq!(store.since(), None);
        assert!(!store.note_stored(10), "there was nothing to end");
    }

    #[test]
    fn refusals_are_recent_until_a_repeated_upload_would_have_come() {
        let store = ResultsFull::default();
        let start = Instant::now();
        let second = Duration::from_secs(1);
        assert!(!store.had_no_recent_refusal_at(start + RETRY_PERIOD));
        store.note_refused_at(10, start);
        store.note_refused_at(1, start + second);
        assert!(!store.had_no_recent_refusal_at(start + RETRY_PERIOD));
        assert!(store.had_no_recent_refusal_at(start + second + RETRY_PERIOD));
        store.clear();
        assert!(!store.had_no_recent_refusal_at(start + second + RETRY_PERIOD));
    }
}
