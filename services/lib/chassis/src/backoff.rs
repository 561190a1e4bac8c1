//! What [`Backoff`] leaves to its process: randomness and sleeping.

use std::time::Duration;

use millrace_domain::Backoff;
use tokio_util::sync::CancellationToken;

/// Jitter of this process's own, and a sleep that a stop ends.
pub trait BackoffExt {
    /// [`Backoff::delay`] with a random jitter.
    fn next_delay(&mut self) -> Duration;

    /// Sleeps for the next delay; false when the stop came first.
    fn pause(&mut self, stop: &CancellationToken) -> impl Future<Output = bool> + Send;
}

impl BackoffExt for Backoff {
    fn next_delay(&mut self) -> Duration {
        self.delay(rand::random())
    }

    async fn pause(&mut self, stop: &CancellationToken) -> bool {
        let delay = self.next_delay();
        stop.run_until_cancelled(tokio::time::sleep(delay))
            .await
            .is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_ends_the_pause() {
        let stop = CancellationToken::new();
        stop.cancel();
        let hour = Duration::from_hours(1);
        assert!(!Backoff::new(hour, hour).pause(&stop).await);
        assert!(
            Backoff::new(Duration::ZERO, Duration::ZERO)
                .pause(&CancellationToken::new())
                .await
        );
    }

    #[test]
    fn jitter_is_drawn_anew_each_time() {
        let mut backoff = Backoff::new(Duration::from_hours(1), Duration::from_hours(1));
        let delays: Vec<Duration> = (0..8).map(|_| backoff.next_delay()).collect();
        assert!(delays.iter().any(|delay| *delay != delays[0]), "{delays:?}");
    }
}
