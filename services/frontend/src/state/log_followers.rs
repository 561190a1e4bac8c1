//! Wakes those who follow a log when this frontend appended to it. Appends through another frontend are found by
//! the followers' own look each second.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use millrace_domain::AttemptId;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Followed logs. Entries without followers go at the next look.
#[derive(Default)]
pub struct LogWatch(Mutex<HashMap<AttemptId, Weak<LogNews>>>);

/// What this frontend knows of a followed log.
#[derive(Debug, Default)]
pub struct LogNews {
    woken: Notify,
    end: AtomicU64,
    changes: AtomicU64,
}

impl LogNews {
    /// Waits for the next word.
    pub fn notified(&self) -> Notified<'_> {
        self.woken.notified()
    }

    /// Where the log ended after the last append through this frontend, in bytes; 0 where there was none.
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// How often something else than an append was told, such as the attempt's end.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }
}

impl LogWatch {
    /// Something to wait on for news of an attempt's log.
    pub fn follow(&self, attempt: AttemptId) -> Arc<LogNews> {
        let mut followed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(news) = followed.get(&attempt).and_then(Weak::upgrade) {
            return news;
        }
        followed.retain(|_, news| news.strong_count() > 0);
        let news = Arc::new(LogNews::default());
        followed.insert(attempt, Arc::downgrade(&news));
        news
    }

    /// Tells the followers of an attempt's log that it now ends at a byte.
    pub fn record_success(&self, attempt: AttemptId, end: u64) {
        if let Some(news) = self.followed(attempt) {
            news.end.fetch_max(end, Ordering::AcqRel);
            news.woken.notify_waiters();
        }
    }

    /// Tells the followers of an attempt's log to look what became of it.
    pub fn tell(&self, attempt: AttemptId) {
        if let Some(news) = self.followed(attempt) {
            news.changes.fetch_add(1, Ordering::AcqRel);
            news.woken.notify_waiters();
        }
    }

    fn followed(&self, attempt: AttemptId) -> Option<Arc<LogNews>> {
        let followed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        followed.get(&attempt).and_then(Weak::upgrade)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_followers_are_woken_and_forgotten() {
        let (watch, attempt) = (LogWatch::default(), AttemptId::generate());
        let (one, two) = (watch.follow(attempt), watch.follow(attempt));
        let (one_woken, two_woken) = (one.notified(), two.notified());
        watch.record_success(attempt, 7);
        tokio::join!(one_woken, two_woken);
        watch.record_success(attempt, 5);
        watch.tell(attempt);
        assert_eq!((one.end(), two.changes()), (7, 1));
        drop((one, two));
        watch.follow(AttemptId::generate());
        assert_eq!(watch.0.lock().unwrap().len(), 1);
    }
}
