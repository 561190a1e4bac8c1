//! Wakes those who follow a log when this frontend appended to it. Appends through another frontend are found by
//! the followers' own look each second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use millrace_domain::AttemptId;
use tokio::sync::Notify;

/// Followed logs. Entries without followers go at the next look.
#[derive(Default)]
pub struct LogWatch(Mutex<HashMap<AttemptId, Weak<Notify>>>);

impl LogWatch {
    /// Something to wait on for news of an attempt's log.
    pub fn follow(&self, attempt: AttemptId) -> Arc<Notify> {
        let mut followed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(news) = followed.get(&attempt).and_then(Weak::upgrade) {
            return news;
        }
        followed.retain(|_, news| news.strong_count() > 0);
        let news = Arc::new(Notify::new());
        followed.insert(attempt, Arc::downgrade(&news));
        news
    }

    /// Tells the followers of an attempt's log that it has grown or ended.
    pub fn tell(&self, attempt: AttemptId) {
        let followed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(news) = followed.get(&attempt).and_then(Weak::upgrade) {
            news.notify_waiters();
        }
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
        watch.tell(attempt);
        tokio::join!(one_woken, two_woken);
        drop((one, two));
        watch.follow(AttemptId::generate());
        assert_eq!(watch.0.lock().unwrap().len(), 1);
    }
}
