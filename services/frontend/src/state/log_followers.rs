//! Wakes the readers that follow a log when this frontend appended to it or ended its attempt. Appends through another
//! frontend are found by `log_stream.rs`, which asks the database each second.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use millrace_domain::AttemptId;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The logs that are followed now. An entry lives as long as one of its followers; dead ones are removed when the next
/// log is followed.
#[derive(Default)]
pub struct LogFollowers(Mutex<HashMap<AttemptId, Weak<LogUpdates>>>);

/// What this frontend knows of a followed log, shared by its followers.
#[derive(Debug, Default)]
pub struct LogUpdates {
    woken: Notify,
    end: AtomicU64,
    changes: AtomicU64,
}

impl LogUpdates {
    /// Waits for the next update.
    pub fn notified(&self) -> Notified<'_> {
        self.woken.notified()
    }

    /// Where the log ended after the last append through this frontend, in bytes; 0 where there was none.
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Number of updates so far that were no append, such as the attempt's end.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }
}

impl LogFollowers {
    /// The updates of an attempt's log from now on.
    pub fn follow(&self, attempt: AttemptId) -> Arc<LogUpdates> {
        let mut followed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(updates) = followed.get(&attempt).and_then(Weak::upgrade) {
            return updates;
        }
        followed.retain(|_, updates| updates.strong_count() > 0);
        let updates = Arc::new(LogUpdates::default());
        followed.insert(attempt, Arc::downgrade(&updates));
        updates
    }

    /// Wakes the followers of an attempt's log after an append; the log now has `end` bytes.
    pub fn notify_grown(&self, attempt: AttemptId, end: u64) {
        if let Some(updates) = self.followed(attempt) {
            updates.end.fetch_max(end, Ordering::AcqRel);
            updates.woken.notify_waiters();
        }
    }

    /// Wakes the followers of an attempt's log after any other change, so that they ask the database.
    pub fn notify(&self, attempt: AttemptId) {
        if let Some(updates) = self.followed(attempt) {
            updates.changes.fetch_add(1, Ordering::AcqRel);
            updates.woken.notify_waiters();
        }
    }

    fn followed(&self, attempt: AttemptId) -> Option<Arc<LogUpdates>> {
        let followed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        followed.get(&attempt).and_then(Weak::upgrade)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_followers_are_woken_and_forgotten() {
        let (followers, attempt) = (LogFollowers::default(), AttemptId::generate());
        let (one, two) = (followers.follow(attempt), followers.follow(attempt));
        let (one_woken, two_woken) = (one.notified(), two.notified());
        followers.notify_grown(attempt, 7);
        tokio::join!(one_woken, two_woken);
        followers.notify_grown(attempt, 5);
        followers.notify(attempt);
        assert_eq!((one.end(), two.changes()), (7, 1));
        drop((one, two));
        followers.follow(AttemptId::generate());
        assert_eq!(followers.0.lock().unwrap().len(), 1);
    }
}
