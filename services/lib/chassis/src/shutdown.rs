//! The wish to stop, as every part of a process sees it: softly first, then a wish to hand
//! unfinished work back, then hard.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The process's wish to stop. Clones share one state.
#[derive(Debug, Clone)]
pub struct Shutdown {
    soft: CancellationToken,
    back: CancellationToken,
    hard: CancellationToken,
    tracker: TaskTracker,
}

impl Shutdown {
    /// A wish to stop that only the caller moves; for tests and for tools without signals.
    pub fn manual() -> Self {
        Self {
            soft: CancellationToken::new(),
            back: CancellationToken::new(),
            hard: CancellationToken::new(),
            tracker: TaskTracker::new(),
        }
    }

    /// Cancelled when no new work is to be taken and present work finished.
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Cancelled when everything is to be dropped at once.
    pub fn hard(&self) -> &CancellationToken {
        &self.hard
    }

    /// Asks all parts to finish, as the first signal does.
    pub fn stop(&self) {
        self.soft.cancel();
    }

    /// Asks all parts to hand back what they have not finished.
    pub fn hand_back(&self) {
        self.soft.cancel();
        self.back.cancel();
    }

    /// Asks all parts to drop what they do, as the last signal does.
    pub fn stop_now(&self) {
        self.hand_back();
        self.hard.cancel();
    }

    /// Whether the stop has begun.
    pub fn is_stopping(&self) -> bool {
        self.soft.is_cancelled()
    }

    /// Resolves when the stop begins.
    pub async fn stopping(&self) {
        self.soft.cancelled().await;
    }

    /// Whether unfinished work is to be handed back.
    pub fn is_handing_back(&self) -> bool {
        self.back.is_cancelled()
    }

    /// Resolves when unfinished work is to be handed back, at the latest when everything is dropped.
    pub async fn handing_back(&self) {
        self.back.cancelled().await;
    }

    /// Waits for the time given; false when the stop came first.
    pub async fn sleep(&self, time: Duration) -> bool {
        self.soft
            .run_until_cancelled(tokio::time::sleep(time))
            .await
            .is_some()
    }

    /// Spawns smaller tasks that the process waits for at its end.
    pub fn tracker(&self) -> &TaskTracker {
        &self.tracker
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hard_stop_is_also_a_soft_one() {
        let shutdown = Shutdown::manual();
        assert!(!shutdown.is_stopping());
        shutdown.clone().stop_now();
        shutdown.stopping().await;
        shutdown.handing_back().await;
        assert!(shutdown.hard().is_cancelled());
        assert!(!shutdown.sleep(Duration::from_hours(1)).await);
    }
}
