//! One reading of the list for all who ask for it at the same time. Readings take turns, and whoever comes while one is
//! under way shares the next: an answer is never older than its question.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use millrace_store::{LegacyBuild, Store};

type Read = Result<Arc<Vec<LegacyBuild>>, Arc<str>>;
type Reading = Shared<BoxFuture<'static, Read>>;

/// The readings of a frontend.
#[derive(Default)]
pub struct SharedList {
    turn: Arc<tokio::sync::Mutex<()>>,
    next: Arc<Mutex<Option<Reading>>>,
}

impl SharedList {
    /// The oldest waiting builds, as they are from now on; or why they could not be read.
    pub async fn read(&self, store: &Store, limit: u32) -> Read {
        let reading = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            next.get_or_insert_with(|| self.reading(store.clone(), limit))
                .clone()
        };
        reading.await
    }

    fn reading(&self, store: Store, limit: u32) -> Reading {
        let (turn, next) = (self.turn.clone(), self.next.clone());
        let read = async move {
            let _turn = turn.lock().await;
            // From here on others need another one.
            next.lock().unwrap_or_else(PoisonError::into_inner).take();
            let builds = store.waiting_builds(limit).await;
            builds
                .map(Arc::new)
                .map_err(|error| Arc::from(error.to_string()))
        };
        read.boxed().shared()
    }
}
