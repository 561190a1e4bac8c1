//! Waits between retries: doubling, with a floor so that nothing spins, a ceiling, and jitter so that many
//! processes do not retry in step.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The shortest wait, whatever is asked for.
const FLOOR: Duration = Duration::from_millis(1);

/// The state of a series of retries.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits that start near `min` and stay below `max`.
    pub fn new(min: Duration, max: Duration) -> Self {
        let min = min.max(FLOOR);
        Self {
            min,
            max: max.max(min),
            next: min,
        }
    }

    /// The next wait: between half and the whole of a value that doubles up to the maximum.
    pub fn next_delay(&mut self) -> Duration {
        let whole = self.next;
        self.next = whole.saturating_mul(2).min(self.max);
        whole.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// Starts over, after a success.
    pub fn reset(&mut self) {
        self.next = self.min;
    }

    /// Waits for [`Backoff::next_delay`]; false when the stop came first.
    pub async fn pause(&mut self, stop: &CancellationToken) -> bool {
        let delay = self.next_delay();
        stop.run_until_cancelled(tokio::time::sleep(delay))
            .await
            .is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_wait_lies_between_half_the_floor_and_the_ceiling(min in 0u64..5_000, max in 0u64..60_000, steps in 1usize..80) {
            let mut backoff = Backoff::new(Duration::from_millis(min), Duration::from_millis(max));
            let ceiling = Duration::from_millis(max.max(min).max(1));
            for _ in 0..steps {
                let delay = backoff.next_delay();
                prop_assert!(delay >= Duration::from_millis(min.max(1)) / 2 && delay <= ceiling);
            }
            backoff.reset();
            prop_assert!(backoff.next_delay() <= Duration::from_millis(min.max(1)));
        }
    }

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
}
