//! Reads the open legacy list once for all who ask for it at the same time, since it is public and polled a lot.
//! Reads follow each other, and a caller that comes during one shares the next: an answer is never older than its
//! question.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use millrace_store::{LegacyBuild, Store};

/// The list, or the text of the error that kept it from being read; both are shared by all callers of a read.
type ListResult = Result<Arc<Vec<LegacyBuild>>, Arc<str>>;
type PendingRead = Shared<BoxFuture<'static, ListResult>>;

/// The reads of one frontend: at most one under way and one that waits for it.
#[derive(Default)]
pub struct SharedList {
    running: Arc<tokio::sync::Mutex<()>>,
    next: Arc<Mutex<Option<PendingRead>>>,
}

impl SharedList {
    /// The oldest waiting builds, `limit` at most, as they are from now on; or why they could not be read.
    pub async fn read(&self, store: &Store, limit: u32) -> ListResult {
        let read = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            next.get_or_insert_with(|| self.new_read(store.clone(), limit))
                .clone()
        };
        read.await
    }

    fn new_read(&self, store: Store, limit: u32) -> PendingRead {
        let (running, next) = (self.running.clone(), self.next.clone());
        let read = async move {
            let _running = running.lock().await;
            // The query starts now, so callers from here on need a later one.
            next.lock().unwrap_or_else(PoisonError::into_inner).take();
            let builds = store.waiting_builds(limit).await;
            builds
                .map(Arc::new)
                .map_err(|error| Arc::from(error.to_string()))
        };
        read.boxed().shared()
    }
}
