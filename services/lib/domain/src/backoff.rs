//! Exponential backoff with jitter: the delays between retries, as plain arithmetic. Who sleeps draws the jitter.

use std::time::Duration;

/// The shortest delay, so that no loop spins whatever is asked for.
const FLOOR: Duration = Duration::from_millis(1);

/// A series of delays that double from a first to a longest one.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Delays that begin near `first` and never exceed `longest`. A `longest` below `first` counts as `first`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        let first = first.max(FLOOR);
        Self {
            first,
            longest: longest.max(first),
            next: first,
        }
    }

    /// For connections to servers, and what is opened on them: 0.2 s to 5 s.
    pub fn for_reconnecting() -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(5))
    }

    /// The next delay: between half (`random` is 0) and the whole (`random` is 1) of a value that doubles each time.
    /// Jitter keeps processes that failed together from retrying together.
    pub fn delay(&mut self, random: f64) -> Duration {
        let whole = self.next;
        self.next = whole.saturating_mul(2).min(self.longest);
        whole.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }

    /// Begins again with the first delay, after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn delays_double_to_their_bound_and_begin_again_after_a_success() {
        let mut backoff = Backoff::for_reconnecting();
        let whole: Vec<u128> = (0..7).map(|_| backoff.delay(1.0).as_millis()).collect();
        assert_eq!(whole, [200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.delay(0.0), Duration::from_millis(100));
        assert_eq!(backoff.delay(0.5), Duration::from_millis(300));
    }

    proptest! {
        #[test]
        fn every_delay_lies_between_half_the_first_and_the_longest(
            first in 0u64..5_000, longest in 0u64..60_000, draws in prop::collection::vec(-1.0f64..2.0, 1..80),
        ) {
            let mut backoff = Backoff::new(Duration::from_millis(first), Duration::from_millis(longest));
            let (first, longest) = (first.max(1), longest.max(first).max(1));
            for random in draws {
                let delay = backoff.delay(random);
                prop_assert!(delay >= Duration::from_millis(first) / 2 && delay <= Duration::from_millis(longest));
            }
            backoff.reset();
            prop_assert!(backoff.delay(1.0) <= Duration::from_millis(first));
        }
    }
}
