//! The builds that the simulated poller has to start, shared by its workers.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use tokio::sync::{Mutex, Notify};

/// Files of builds to be started, in the order of their names.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    added: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Numbers of all builds that were ever added; none is started twice.
    seen: HashSet<String>,
    files: BTreeSet<PathBuf>,
    /// Builds that a worker took and has not finished.
    at_work: usize,
}

impl Queue {
    /// Whether this process never had the build with this number.
    pub async fn is_new(&self, id: &str) -> bool {
        !self.waiting.lock().await.seen.contains(id)
    }

    /// Adds a build, unless it was added before.
    pub async fn add(&self, spool: &Path, id: String) {
        let mut waiting = self.waiting.lock().await;
        let path = spool.join(format!("{id}.json"));
        if waiting.seen.insert(id) {
            waiting.files.insert(path);
            self.added.notify_one();
        }
    }

    /// Takes the next file; waits until there is one.
    pub async fn next(&self) -> PathBuf {
        loop {
            let added = self.added.notified();
            if let Some(next) = self.take_first().await {
                return next;
            }
            added.await;
        }
    }

    async fn take_first(&self) -> Option<PathBuf> {
        let mut waiting = self.waiting.lock().await;
        let next = waiting.files.pop_first()?;
        waiting.at_work += 1;
        // One notification may stand for several files, so the next worker is woken as well.
        self.added.notify_one();
        Some(next)
    }

    /// Ends the work on a file that [`Queue::next`] gave, however it went.
    pub async fn done(&self) {
        self.waiting.lock().await.at_work -= 1;
    }

    /// Whether nothing waits and no worker is at work.
    pub async fn is_done(&self) -> bool {
        let waiting = self.waiting.lock().await;
        waiting.files.is_empty() && waiting.at_work == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_build_is_queued_once_in_the_life_of_the_process() {
        let queue = Queue::default();
        assert!(queue.is_new("5").await && queue.is_done().await);
        for id in ["5", "5", "4"] {
            queue.add(Path::new("spool"), id.to_owned()).await;
        }
        assert!(!queue.is_new("5").await && !queue.is_done().await);
        assert_eq!(queue.next().await, Path::new("spool/4.json"));
        assert_eq!(queue.next().await, Path::new("spool/5.json"));
        assert!(!queue.is_done().await, "both are at work");
        queue.add(Path::new("spool"), "5".to_owned()).await;
        queue.done().await;
        queue.done().await;
        assert!(
            queue.is_done().await,
            "a build that was done is not queued again"
        );
    }

    #[tokio::test]
    async fn workers_that_wait_are_all_woken() {
        let queue = std::sync::Arc::new(Queue::default());
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let queue = queue.clone();
            workers.spawn(async move { queue.next().await });
        }
        // All workers wait by now: the test's runtime has one thread, and runs them before it returns here.
        tokio::task::yield_now().await;
        for id in 0..3 {
            queue.add(Path::new("spool"), id.to_string()).await;
        }
        let limit = std::time::Duration::from_secs(30);
        let taken = tokio::time::timeout(limit, workers.join_all()).await;
        let mut taken = taken.expect("a worker was not woken");
        taken.sort();
        assert_eq!(
            taken,
            [0, 1, 2].map(|id| PathBuf::from(format!("spool/{id}.json")))
        );
    }
}
