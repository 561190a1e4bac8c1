//! Start and stop of a process.
//!
//! ```text
//! running ──first SIGTERM/SIGINT, or a part that ended early──▶ finishing ──all parts ended──▶ exit
//!                                                                  │
//!                                        second signal or deadline ▼
//!                                                            handing back ──all parts ended──▶ exit
//!                                                                  │
//!                                                signal or deadline ▼
//!                                                               dropping ──ended, or 5 s──▶ exit 1
//! ```
//!
//! A process that has nothing to hand back goes from finishing to dropping at once.

use std::any::Any;
use std::collections::BTreeSet;
use std::error::Error;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{Id, JoinError, JoinSet};

use crate::logging::panic_text;
use crate::shutdown::Shutdown;

/// How long parts may take to notice that everything is dropped.
const DROP_WITHIN: Duration = Duration::from_secs(5);

type PartResult = Result<(), Box<dyn Error + Send + Sync>>;

/// Owns the named parts of a process and decides how it ends.
pub struct Lifecycle {
    shutdown: Shutdown,
    grace: Option<Duration>,
    hand_back_within: Option<Duration>,
    parts: JoinSet<PartResult>,
    names: Vec<(Id, &'static str)>,
    terminate: Signal,
    interrupt: Signal,
    failed: bool,
    drop_within: Duration,
}

impl Lifecycle {
    /// Catches SIGTERM and SIGINT from here on. `grace` is the time for finishing, from the first signal until
    /// work is dropped (or handed back); without it, only a second signal ends that. Needs a running tokio runtime.
    pub fn new(grace: Option<Duration>) -> std::io::Result<Self> {
        Ok(Self {
            shutdown: Shutdown::manual(),
            grace,
            hand_back_within: None,
            parts: JoinSet::new(),
            names: Vec::new(),
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            failed: false,
            drop_within: DROP_WITHIN,
        })
    }

    /// Lets parts hand back what they did not finish, for at most this long, before it is dropped.
    #[must_use]
    pub fn handing_back_within(mut self, time: Duration) -> Self {
        self.hand_back_within = Some(time);
        self
    }

    /// The wish to stop, to be handed to parts.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Starts a part that lives until the stop. Whether it succeeds, fails or panics: when it ends before, the
    /// process stops with failure.
    pub fn spawn<F, E>(&mut self, name: &'static str, part: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let handle = self
            .parts
            .spawn(async move { part.await.map_err(Into::into) });
        self.names.push((handle.id(), name));
    }

    /// Waits for a signal or an early end, then for all parts and tracked tasks to finish.
    #[must_use = "the exit code says whether the process did its work"]
    pub async fn run(mut self) -> ExitCode {
        self.wait_for_stop().await;
        self.shutdown.stop();
        self.shutdown.tracker().close();
        if !self.finish().await && !self.hand_back().await {
            self.failed = true;
            self.shutdown.stop_now();
            if tokio::time::timeout(self.drop_within, self.join_all())
                .await
                .is_err()
            {
                tracing::error!(parts = ?self.running(), "some parts did not end, leaving without them");
            }
        }
        if self.failed {
            ExitCode::FAILURE
        } else {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
    }

    async fn wait_for_stop(&mut self) {
        let second = match self.hand_back_within {
            Some(_) => "a second signal hands running work back",
            None => "a second signal drops running work",
        };
        tokio::select! {
            () = self.shutdown.stopping() => tracing::info!("stopping"),
            _ = self.terminate.recv() => tracing::info!(signal = "SIGTERM", "stopping, {second}"),
            _ = self.interrupt.recv() => tracing::info!(signal = "SIGINT", "stopping, {second}"),
            Some(ended) = self.parts.join_next_with_id() => self.note_end(ended),
        }
    }

    /// Waits for all parts to finish what they have; false when there is no more patience.
    async fn finish(&mut self) -> bool {
        let (early, grace) = (self.shutdown.clone(), self.grace);
        tokio::select! {
            ended = self.ended_within(grace, "finishing") => ended,
            () = early.handing_back() => false,
        }
    }

    /// Waits for all parts to hand back what they did not finish; false when they did not, or have no such thing.
    async fn hand_back(&mut self) -> bool {
        let Some(time) = self.hand_back_within else {
            return false;
        };
        tracing::info!(parts = ?self.running(), "handing running work back");
        self.shutdown.hand_back();
        self.ended_within(Some(time), "handing back").await
    }

    /// Waits for all parts; false when a signal or the deadline ends the patience.
    async fn ended_within(&mut self, time: Option<Duration>, what: &'static str) -> bool {
        let hard = self.shutdown.hard().clone();
        let deadline = async move {
            match time {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        let mut deadline = std::pin::pin!(deadline);
        loop {
            let tracker = self.shutdown.tracker().clone();
            tokio::select! {
                ended = self.parts.join_next_with_id(), if !self.parts.is_empty() => {
                    if let Some(ended) = ended {
                        self.note_end(ended);
                    }
                }
                () = tracker.wait(), if self.parts.is_empty() => return true,
                () = &mut deadline => {
                    tracing::warn!(parts = ?self.running(), "the time for {what} is over");
                    return false;
                }
                () = hard.cancelled() => return false,
                _ = self.terminate.recv() => {
                    tracing::warn!(signal = "SIGTERM", "another signal ends {what}");
                    return false;
                }
                _ = self.interrupt.recv() => {
                    tracing::warn!(signal = "SIGINT", "another signal ends {what}");
                    return false;
                }
            }
        }
    }

    async fn join_all(&mut self) {
        while let Some(ended) = self.parts.join_next_with_id().await {
            self.note_end(ended);
        }
        self.shutdown.tracker().wait().await;
    }

    fn note_end(&mut self, ended: Result<(Id, PartResult), JoinError>) {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result.map_err(|error| chain(error.as_ref()))),
            Err(error) => (error.id(), Err(join_text(error))),
        };
        let name = self.forget(id);
        match result {
            Ok(()) if self.shutdown.is_stopping() => tracing::debug!(part = name, "part ended"),
            Ok(()) => {
                tracing::error!(
                    part = name,
                    "a part ended without a request to stop; stopping the process"
                );
                self.failed = true;
            }
            Err(reason) => {
                tracing::error!(part = name, "part failed, stopping: {reason}");
                self.failed = true;
            }
        }
    }

    fn forget(&mut self, id: Id) -> &'static str {
        match self.names.iter().position(|(known, _)| *known == id) {
            Some(index) => self.names.swap_remove(index).1,
            None => "unknown",
        }
    }

    fn running(&self) -> BTreeSet<&'static str> {
        self.names.iter().map(|(_, name)| *name).collect()
    }
}

fn join_text(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => format!(
            "panic: {}",
            panic_text(payload.as_ref() as &(dyn Any + Send))
        ),
        Err(error) => error.to_string(),
    }
}

/// An error with its causes, in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // Many errors already repeat their cause in their own text.
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn text(code: ExitCode) -> String {
        format!("{code:?}")
    }

    fn assert_failed(code: ExitCode) {
        assert_eq!(text(code), text(ExitCode::FAILURE));
    }

    #[tokio::test]
    async fn a_stop_lets_parts_and_tracked_tasks_finish() {
        let mut lifecycle = Lifecycle::new(None).unwrap();
        let shutdown = lifecycle.shutdown();
        let (send, receive) = tokio::sync::oneshot::channel();
        let inner = shutdown.clone();
        lifecycle.spawn("intake", async move {
            inner.stopping().await;
            inner.tracker().spawn(async move { send.send(()) });
            Ok::<(), io::Error>(())
        });
        shutdown.stop();
        assert_eq!(text(lifecycle.run().await), text(ExitCode::SUCCESS));
        receive.await.unwrap();
    }

    #[tokio::test]
    async fn a_part_that_ends_early_or_fails_or_panics_stops_all_with_failure() {
        for kind in 0..3 {
            let mut lifecycle = Lifecycle::new(None).unwrap();
            let shutdown = lifecycle.shutdown();
            lifecycle.spawn("good", async move {
                shutdown.stopping().await;
                Ok::<(), io::Error>(())
            });
            lifecycle.spawn("bad", async move {
                assert!(kind != 2, "broken on purpose");
                if kind == 0 {
                    Ok(())
                } else {
                    Err(io::Error::other("broken on purpose"))
                }
            });
            assert_failed(lifecycle.run().await);
        }
    }

    #[tokio::test]
    async fn the_deadline_drops_what_does_not_finish() {
        let mut lifecycle = Lifecycle::new(Some(Duration::from_millis(20))).unwrap();
        let shutdown = lifecycle.shutdown();
        let inner = shutdown.clone();
        lifecycle.spawn("slow", async move {
            inner.hard().cancelled().await;
            Ok::<(), io::Error>(())
        });
        shutdown.stop();
        assert_failed(lifecycle.run().await);
    }

    #[tokio::test]
    async fn what_does_not_finish_is_handed_back_and_that_is_no_failure() {
        let lifecycle = Lifecycle::new(Some(Duration::ZERO)).unwrap();
        let mut lifecycle = lifecycle.handing_back_within(Duration::from_mins(1));
        let shutdown = lifecycle.shutdown();
        let inner = shutdown.clone();
        lifecycle.spawn("slow", async move {
            inner.handing_back().await;
            assert!(!inner.hard().is_cancelled());
            Ok::<(), io::Error>(())
        });
        shutdown.stop();
        assert_eq!(text(lifecycle.run().await), text(ExitCode::SUCCESS));
    }

    #[tokio::test]
    async fn what_is_not_handed_back_in_time_is_dropped() {
        let lifecycle = Lifecycle::new(None).unwrap();
        let mut lifecycle = lifecycle.handing_back_within(Duration::from_millis(10));
        let shutdown = lifecycle.shutdown();
        let inner = shutdown.clone();
        lifecycle.spawn("slow", async move {
            inner.hard().cancelled().await;
            Ok::<(), io::Error>(())
        });
        shutdown.hand_back();
        assert_failed(lifecycle.run().await);
    }

    #[tokio::test]
    async fn a_part_that_ignores_everything_is_left_behind() {
        let mut lifecycle = Lifecycle::new(Some(Duration::from_millis(10))).unwrap();
        lifecycle.drop_within = Duration::from_millis(10);
        let shutdown = lifecycle.shutdown();
        lifecycle.spawn("deaf", std::future::pending::<Result<(), io::Error>>());
        shutdown.stop();
        assert_failed(lifecycle.run().await);
    }

    #[test]
    fn an_error_is_told_with_its_causes_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot claim")]
        struct Outer(#[source] io::Error);
        let error = Outer(io::Error::other("no route"));
        assert_eq!(chain(&error), "cannot claim: no route");
    }
}
